"""What a weight of the input is: a finite number from 0 on, as which an image counts."""

import decimal
import math
import numbers
from typing import Any

import numpy as np

from pipeline.errors import UserError


def weight_of(value: Any, where: str) -> float:
    """Returns a weight as a number; booleans count as 0 and 1.

    Args:
      where: file and row, for errors.

    Raises:
      UserError: it is missing, or no finite number, or negative.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, numbers.Real | decimal.Decimal):
        weight = float(value)
        if math.isfinite(weight) and weight >= 0:
            return weight + 0.0  # -0 is 0
    shown = "nothing" if value is None else repr(value)[:40]
    raise UserError(
        f"{where}: a weight of {shown}; weights are finite numbers from 0 on, of which 0 leaves an "
        "image out; correct it, or leave out --weight-column"
    )


def weight_in_text(text: str, where: str) -> float:
    """Returns the weight that a text says; raises UserError as `weight_of`."""
    try:
        return weight_of(float(text), where)
    except ValueError:
        return weight_of(text or None, where)


def weights_of(values: np.ndarray, where: str) -> np.ndarray:
    """Returns weights [n] or [n, 1] as float64 [n].

    Raises:
      UserError: one is no weight, or there are several for an image.
    """
    if math.prod(values.shape[1:]) != 1 or values.dtype.kind not in "biuf":
        raise UserError(
            f"{where}: an array of shape {values.shape} and dtype {values.dtype}; weights are one "
            "number for each image"
        )
    weights = values.reshape(len(values)).astype(np.float64)
    good = np.isfinite(weights) & (weights >= 0)
    if not good.all():
        row = int(np.argmin(good))
        weight_of(weights[row], f"{where}: row {row}")
    return weights + 0.0
