"""Lloyd's assignments with less work: bounds per image, then a screen in few dimensions.

1. Every image keeps bounds on its distances to its own and to all other centroids, which grow
   looser as centroids move. While they do not overlap, its cluster cannot have changed, and the
   image is skipped (Hamerly: Making k-means even faster, SDM 2010).
2. Images in doubt are screened: images and centroids are projected into few dimensions, which
   bounds all distances from both sides. A centroid whose upper bound is below the lower bounds of
   all others is the nearest. For most images that decides.
3. Images still in doubt are assigned as Lloyd's algorithm does.

A screen that leaves too many in doubt is given up, and groups.py goes on with a bound for each
group of centroids.

Every bound carries a margin for the rounding of float32, so that the assignments are the same bits
as Lloyd's. Few and many centroids are best served by different bounds: see few.py and many.py.
Where none can pay, groups.py serves from the beginning: vectors, such as embeddings, differ in too
many directions; scores of bytes from small integers or in tensor cores are cheap; small sets take
less time than it takes to make the graphs of a screen.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from job.images.protocol import Images
from job.kmeans import Algorithm
from job.kmeans.halves import pays
from job.kmeans.hamerly.few import FewCentroids
from job.kmeans.hamerly.groups import GroupedCentroids
from job.kmeans.hamerly.many import ManyCentroids
from job.kmeans.pieces import fits
from job.kmeans.sums import Change

# From so many centroids on, it pays to compute an image's distances to a few of them only.
MANY_CENTROIDS = 200
# How many dimensions the screen has for few, some and many centroids. That of few spans all of
# them, and the images' leading directions besides, in which centroids move; that of many never
# spans them all. An image's row has two more columns: together a multiple of 16, as vector
# registers like it.
FEW_COLUMNS, SOME_COLUMNS, MANY_COLUMNS = 46, 110, 78
# Centroids of a group: smaller groups leave fewer pairs of an image and a centroid open, but images
# are read more often. With few centroids reading costs as much as scores of all.
GROUP = 25
# A screen of fewer dimensions, where memory is short, saves less than the pass that makes it costs.
LEAST_COLUMNS = 16
# Float64 matrices of centroids that take from the memory that a state may have.
MATRICES = 6
# Of a smaller set, making the graphs of a screen takes longer than a fit without one.
LEAST_PIXELS = 10_000_000
# From products of bytes so many times as fast as those of float32, scores of all centroids are as
# cheap as a screen for any k; from slower ones, for fewer centroids than this.
CHEAP_SPEED, CHEAP_CENTROIDS = 6, 600


def hamerly(images: Images, k: int) -> Algorithm:
    """Makes the algorithm that suits k centroids, the device and the memory that is left."""
    many, are_bytes, precision = k >= MANY_CENTROIDS, bool(images.units.step), images.precision
    in_pieces = are_bytes and fits(precision.largest_piece, images.num_features)
    in_halves = are_bytes and pays(precision)
    # Scores from pieces or halves are not made group by group.
    by_group = many and not in_pieces and not in_halves
    groups = max(1, min(k // GROUP, _spare_row_bytes(images, k) // 4)) if by_group else 1
    if not are_bytes:
        return GroupedCentroids(images, k, groups)
    wanted = MANY_COLUMNS if many else SOME_COLUMNS if 2 * k > FEW_COLUMNS else FEW_COLUMNS
    columns = _screen_columns(images, k, wanted)
    is_small = images.num_images * images.num_features < LEAST_PIXELS
    is_cheap = in_halves or (
        in_pieces and (k < CHEAP_CENTROIDS or precision.piece_speed >= CHEAP_SPEED)
    )
    if is_small or not columns or is_cheap:
        return GroupedCentroids(images, k, 1)
    screened = (ManyCentroids if many else FewCentroids)(images, k, columns)
    return Screened(screened, lambda: GroupedCentroids(images, k, groups))


class Screened:
    """Implements `Algorithm` with a screen, and without one as soon as a screen was no help."""

    def __init__(
        self,
        screened: FewCentroids | ManyCentroids,
        unscreened: Callable[[], GroupedCentroids],
    ):
        """Takes the algorithm that has a screen, and what makes the other, which needs memory."""
        self._algorithm: FewCentroids | ManyCentroids | GroupedCentroids = screened
        self._unscreened = unscreened
        self._before: np.ndarray | None = None

    @property
    def clusters(self) -> Any:
        return self._algorithm.clusters

    def start(self) -> None:
        self._algorithm.start()

    def assign(self, centroids: np.ndarray) -> Change:
        algorithm = self._algorithm
        if not isinstance(algorithm, GroupedCentroids) and not algorithm.screen.is_worthwhile:
            assert self._before is not None  # the screen served once
            self._algorithm = self._unscreened()
            self._algorithm.resume(algorithm.clusters, self._before)
        self._before = centroids
        return self._algorithm.assign(centroids)


def _screen_columns(images: Images, k: int, wanted: int) -> int:
    """Returns how many of `wanted` dimensions a screen may have; 0 if too few to be worth it."""
    widest = images.num_features // 4
    columns = min(wanted, widest, _spare_row_bytes(images, k) // 4 - 2)
    return 0 if columns < min(LEAST_COLUMNS, widest) else columns


def _spare_row_bytes(images: Images, k: int) -> int:
    """Returns how many bytes a state may take for each image, beside the centroids."""
    taken = MATRICES * 8 * k * images.num_features // images.num_images
    return images.spare_row_bytes - taken
