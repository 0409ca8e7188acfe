"""How matrix products round on the devices that compute them.

Scores made of float32 products come with a margin for how far they may be off, and what lies within
it is decided again in float64. The margin has to follow the hardware: CPUs use the factors as they
are, while tensor cores of GPUs may first shorten them to TF32, with 10 bits of mantissa, unless
TensorFlow was told not to let them. Every bound on the error of a product comes from here.
"""

from typing import NamedTuple

# The most that rounding to float32 changes a number, relative to it.
FLOAT32_ROUNDING = 2.0**-24


class Precision(NamedTuple):
    """How much a product of float32 matrices rounds, relative to the numbers that are rounded.

    Attributes:
      factors: rounding of a factor before it is multiplied; 0: none.
      sums: rounding of each product and of each addition.
      largest_piece: the largest int8 that the device multiplies bytes by exactly, in a fraction of
        the time of float32; 0: it does not. See `pieces`.
      piece_speed: how many times as fast that is as a product of float32, rounded.
    """

    factors: float
    sums: float
    largest_piece: int = 0
    piece_speed: int = 0

    def of_product(self, terms: int, rounded_factors: int) -> float:
        """Bounds |computed − exact| / Σ |aᵢ bᵢ| for a sum of `terms` products aᵢ bᵢ.

        The bound holds for any order of additions (Higham: Accuracy and stability of numerical
        algorithms, 2002, section 3.1). It leaves out products of errors: multiply it by a number a
        little larger than 1 for them.

        Args:
          terms: the number of products, and of what else is rounded once, such as factors made from
            float64.
          rounded_factors: how many of aᵢ and bᵢ may have more bits than the hardware keeps: 1 if
            one of them is a uint8 pixel, which no precision shortens, else 2.
        """
        return terms * self.sums + rounded_factors * self.factors


FLOAT32 = Precision(0.0, FLOAT32_ROUNDING)
# Twice the error of rounding to 11 significant bits, since some kernels cut off bits instead. The
# sums are float32, but tensor cores cut off bits there too, and align several products at a time.
TF32 = Precision(2.0**-10, 4 * FLOAT32_ROUNDING)


def pixel_factors(step: float) -> int:
    """Returns how many factors of a product of a pixel and a float32 weight may be shortened.

    Args:
      step: `Units.step` of the pixels, which is 0 for float32 images.
    """
    return 1 if step else 2
