"""Cluster sums of rows that stand for several equal images each."""

from collections.abc import Callable
from typing import Any, cast

import tensorflow as tf

from job.images.protocol import Images, Pass
from job.kmeans.sums import moved_sums


def counting(images: Images, k: int) -> Images:
    """Returns images whose passes count copies of rows in the sums of k clusters.

    What algorithms say of their passes holds there: see `Algorithm`.
    """
    return images if images.copies is None else cast(Images, _Counting(images, k))


class _Counting:
    """Has all attributes of `images`, but other passes."""

    def __init__(self, images: Images, k: int):
        self._images, self._shape = images, (k, images.num_features)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)

    def compile(self, step: Callable, *options: Any) -> Pass:
        images = self._images
        both = images.compile(_counted, step, images.units, self._shape, *options)

        def run(state: Any, shared: Any) -> tuple[Any, list]:
            (state, _), totals = both((state, images.copies), shared)
            return state, totals

        return run


def _counted(images, squared_norm, state, shared, step, units, shape, *options):
    """A step: what `step` does, in the same reading of the images, but for its `moved_sums`."""
    before, copies = state
    after, partial = step(images, squared_norm, before, shared, *options)
    if partial:
        # TensorFlow leaves out the sums whose place these take.
        own, new = (tf.nest.flatten(each)[0] for each in (before, after))
        partial[:3] = moved_sums(images, own, new, shape, units, copies=copies)
    return (after, copies), partial
