"""Lloyd's assignments with less work: bounds per image, then a screen in few dimensions.

1. Every image keeps bounds on its distances to its own and to all other centroids, which grow
   looser as centroids move. While they do not overlap, its cluster cannot have changed, and the
   image is skipped (Hamerly: Making k-means even faster, SDM 2010).
2. Images in doubt are screened: images and centroids are projected into few dimensions, which
   bounds all distances from both sides. A centroid whose upper bound is below the lower bounds of
   all others is the nearest. For most images that decides.
3. Images still in doubt are assigned as Lloyd's algorithm does.

Every bound carries a margin for the rounding of float32, so that the assignments are the same bits
as Lloyd's. Few and many centroids are best served by different bounds: see few.py and many.py.
Where a screen does not pay, groups.py serves all, with a bound for each group of centroids.
Vectors, such as embeddings, differ in too many directions; scores of bytes from small integers or
in tensor cores are cheap; small sets take less time than it takes to make the graphs of a screen.
"""

from job.images.protocol import Images
from job.kmeans import Algorithm
from job.kmeans.halves import pays
from job.kmeans.hamerly.few import FewCentroids
from job.kmeans.hamerly.groups import GroupedCentroids
from job.kmeans.hamerly.many import ManyCentroids
from job.kmeans.pieces import fits

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
# Float64 matrices of centroids that take from the memory that a screen may have.
MATRICES = 5
# Of a smaller set, making the graphs of a screen takes longer than a fit without one.
LEAST_PIXELS = 10_000_000


def hamerly(images: Images, k: int) -> Algorithm:
    """Makes the algorithm that suits k centroids, the device and the memory that is left."""
    many = k >= MANY_CENTROIDS
    if not images.units.step:
        groups = min(k // GROUP, images.spare_row_bytes // 4) if many else 1
        return GroupedCentroids(images, k, max(1, groups))
    wanted = MANY_COLUMNS if many else SOME_COLUMNS if 2 * k > FEW_COLUMNS else FEW_COLUMNS
    columns = _screen_columns(images, k, wanted)
    small = images.num_images * images.num_features < LEAST_PIXELS
    cheap = fits(images.precision.largest_piece, images.num_features) or pays(images.precision)
    if small or not columns or cheap:
        return GroupedCentroids(images, k, 1)
    return (ManyCentroids if many else FewCentroids)(images, k, columns)


def _screen_columns(images: Images, k: int, wanted: int) -> int:
    """Returns how many of `wanted` dimensions a screen may have; 0 if too few to be worth it."""
    widest = images.num_features // 4
    taken = MATRICES * 8 * k * images.num_features // images.num_images  # bytes of each image
    columns = min(wanted, widest, (images.spare_row_bytes - taken) // 4 - 2)
    return 0 if columns < min(LEAST_COLUMNS, widest) else columns
