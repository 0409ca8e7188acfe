"""How matrix products of float32 round on the devices that compute them.

The scores of float32 products decide nothing by themselves: a margin says how far they may be off,
and what lies within it is decided again in float64. The margin has to follow the hardware. CPUs use
the factors as they are; tensor cores of GPUs may first shorten them to TF32, 10 bits of mantissa,
unless TensorFlow was told not to let them. Every bound of a product's error is made here.
"""

from typing import NamedTuple

# Half a unit in the last place of a float32 number near 1.
FLOAT32_ROUNDING = 2.0**-24


class Precision(NamedTuple):
    """The rounding in a product of float32 matrices, relative to the numbers that are rounded.

    Attributes:
      factors: of a factor before it is multiplied; 0: it is taken as it is.
      sums: of each product and of each addition.
    """

    factors: float
    sums: float

    def of_product(self, terms: int, rounded_factors: int) -> float:
        """A bound of |computed − exact| / Σ |aᵢ bᵢ| for a sum of `terms` products aᵢ bᵢ.

        Holds for any order of additions (Higham 2002, section 3.1). Products of errors are left
        out: multiply by a number a little larger than 1 for them.

        Args:
          terms: products and what else is rounded once, such as factors made from float64.
          rounded_factors: how many of aᵢ and bᵢ may have more bits than the hardware keeps: 1 if
            one of them is a uint8 pixel, which no precision shortens, else 2.
        """
        return terms * self.sums + rounded_factors * self.factors


FLOAT32 = Precision(0.0, FLOAT32_ROUNDING)
# Twice the error of rounding to 11 significant bits, since some kernels cut off bits instead. The
# sums are float32, but tensor cores cut off bits there too, and align several products at a time.
TF32 = Precision(2.0**-10, 4 * FLOAT32_ROUNDING)


def pixel_factors(step: float) -> int:
    """How many factors of a product of pixels and float32 weights have bits to lose.

    Args:
      step: `Units.step` of the pixels, which is 0 for float32 images.
    """
    return 1 if step else 2
