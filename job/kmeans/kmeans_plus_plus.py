"""k-means++: initial centroids that are far from each other, chosen one by one.

Arthur, Vassilvitskii: k-means++, the advantages of careful seeding (SODA 2007).
"""

import numpy as np
import tensorflow as tf

from job import hashing
from job.images.protocol import Images
from job.kmeans.init import Seeding, random_images, too_few_distinct, weighed
from job.kmeans.scores import nearest_of


def initial_images(images: Images, seeding: Seeding) -> np.ndarray:
    """Chooses k images, each with probability proportional to D²; returns their pixels [k, d].

    D is the distance to the nearest image chosen before. The draw is an exponential race: the image
    with the smallest −ln(u)/D² wins with probability D²/Σ D².

    Raises:
      UserError: fewer distinct images than k.
    """
    k, seed, purpose, chosen = seeding.k, seeding.seed, seeding.purpose, seeding.chosen
    if not chosen:
        chosen.append(random_images(images, 1, seed, f"{purpose}/0")[0])
    approach = images.compile(_approach, images.precision)
    nearest = images.state(lambda count: np.full(count, np.inf))
    # After a resume, the distances to the images chosen before are computed again; the loop below
    # begins with those to the last one.
    for pixels in chosen[:-1] if len(chosen) < k else ():
        nearest, _ = approach(nearest, pixels)
    while len(chosen) < k:
        seeding.progress(len(chosen))
        nearest, (potential,) = approach(nearest, chosen[-1])
        if potential == 0:
            raise too_few_distinct(len(chosen), k)
        hashes = [hashing.hashes(part, seed, f"{purpose}/{len(chosen)}") for part in images.digests]
        squared = weighed(images, images.local(nearest))
        keys = [hashing.race(*pair) for pair in zip(hashes, squared, strict=True)]
        ((*_, place),) = images.smallest([keys, hashes], 1)
        chosen.append(images.take([place])[0])
    seeding.progress(k)
    return np.stack(chosen)


def _approach(images, squared_norm, nearest, chosen, precision):
    """A step: keeps D² to the nearest chosen image, now that `chosen` [d] is one; sums D²."""
    nearest = nearest_of(images, squared_norm, nearest, chosen, precision)
    return nearest, [tf.reduce_sum(nearest)]
