"""Distance between two arrays, and the range of an array."""

from __future__ import annotations

import numpy as np

from backends.base import Array

__all__ = ["distance", "numbers", "span_of"]

_SMALLEST = 1e-33
"""A ten-thousandth of this is still a normal number in fp32: some runtimes flush smaller ones to zero."""


def span_of(reference: Array, floor: float = 0.0) -> float:
    """Return the range of the finite values, at least `floor` times their magnitude; the magnitude if all are equal."""
    values = numbers(reference)
    values = values[np.isfinite(values)]
    if not values.size:
        return 1.0
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    return max((high - low) or size, floor * size, _SMALLEST) if size else 1.0


def distance(one: Array, other: Array) -> float:
    """Return the largest difference of two arrays of equal shape; infinite where only one value is finite."""
    left, right = numbers(one), numbers(other)
    with np.errstate(invalid="ignore"):
        apart = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, np.abs(left - right))
    largest = float(apart.max(initial=0.0))
    return np.inf if np.isnan(largest) else largest


def numbers(array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the real numbers to subtract: a complex number gives two, text none."""
    if array.dtype.hasobject:
        return np.empty(0)
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag]).astype(np.float64)
    return array.astype(np.float64)
