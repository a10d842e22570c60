"""The importance that a plan keeps by its counts alone, whatever the weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

__all__ = ["importance_of"]


def importance_of(whole: Mapping[str, int], counts: Mapping[str, int]) -> float:
    """Return the mean over groups of the square root of the share of units kept.

    Parameters
    ----------
    whole : Mapping of str to int
        Units of each group.
    counts : Mapping of str to int
        Kept units; groups not named are whole.
    """
    return sum(sqrt(counts.get(name, size) / size) for name, size in whole.items()) / len(whole)
