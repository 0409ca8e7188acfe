"""Threads of the library that multiplies matrices for NumPy and SciPy."""

import functools
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the libraries takes milliseconds


def one_thread() -> AbstractContextManager:
    """Multiplies with one thread inside the block: of small products, several would wait longer."""
    return _controller().limit(limits=1, user_api="blas")
