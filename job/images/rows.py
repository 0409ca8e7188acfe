"""Rows of images as they come from shards: whose they are, and what is known of each."""

import numpy as np


def squared_pixel_norms(pixels: np.ndarray) -> np.ndarray:
    """‖x‖² of images [n, d], in pixels²; float64 [n], exact for uint8."""
    wide = pixels.astype(np.float64)
    return np.einsum("nd,nd->n", wide, wide)
