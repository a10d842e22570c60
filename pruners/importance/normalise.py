"""Normalise each group's scores to make groups comparable; pure functions that keep the order within a group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import fsum, hypot, log1p, sqrt
from typing import Literal, get_args

from pruners.errors import MethodError
from pruners.importance.scores import Scores

__all__ = ["Normalisation", "normalisation_names", "normalise"]

Normalisation = Literal["none", "l1", "l2", "max", "mean", "std", "lamp", "log"]


def normalisation_names() -> tuple[str, ...]:
    """List the normalisations."""
    return get_args(Normalisation)


def normalise(scores: Mapping[str, Sequence[float]], how: Normalisation) -> Scores:
    """Normalise the scores of each group separately.

    With scores ``s`` of one group of ``n`` units:

    ====== ===================================================================================================
    none   ``s``
    l1     ``s / sum |s|``
    l2     ``s / sqrt(sum s^2)`` (Molchanov et al. 2017, section 2.2)
    max    ``s / max |s|``
    mean   ``s / (sum |s| / n)``
    std    ``(s - mean) / standard deviation``
    lamp   ``s[u]^2 / sum of s[v]^2 over the v with |s[v]| >= |s[u]|``, with the sign of ``s[u]``: each unit against
           those that outlive it (Lee et al. 2021, equation 4; there for single weights)
    log    ``T log(S[u] / (S[u] - s[u]))`` with ``S[u]`` the sum of the scores of at least ``s[u]`` and ``T`` of all:
           what a group keeps counts by its logarithm. The least important unit counts about ``s``, and each of the
           others the more, the less of the group would be left. Scores that are not positive stay as they are
    ====== ===================================================================================================

    With "none" and "log" scores keep their unit, such as a change of the loss, by which groups compare. A group without
    a scale (all zeros, or for "std" all equal) becomes zeros.

    Raises
    ------
    MethodError
        `how` is none of these.

    References
    ----------
    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
    arXiv:1611.06440, section 2.2 and appendix A.2 (the normalisers compared).
    Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv:2010.07611,
    section 3.
    """
    if how not in _NORMALISATIONS:
        raise MethodError(f"unknown normalisation {how!r} (there are: {', '.join(_NORMALISATIONS)})")
    return {name: _NORMALISATIONS[how](values) for name, values in scores.items()}


def _over(values: Sequence[float], scale: float) -> tuple[float, ...]:
    return tuple(value / scale for value in values) if scale > 0 else (0.0,) * len(values)


def _standardised(values: Sequence[float]) -> tuple[float, ...]:
    if min(values) == max(values):
        return (0.0,) * len(values)
    mean = fsum(values) / len(values)
    apart = [value - mean for value in values]
    return _over(apart, hypot(*apart) / sqrt(len(values)))


def _lamp(values: Sequence[float]) -> tuple[float, ...]:
    largest = max(map(abs, values))
    if not largest:
        return (0.0,) * len(values)
    shares = [(value / largest) ** 2 for value in values]  # squares of the values themselves might underflow
    outliving: dict[float, float] = {}
    total = 0.0
    for share in sorted(shares, reverse=True):
        total += share
        outliving[share] = total
    return tuple(
        (1 if value > 0 else -1) * share / outliving[share] for value, share in zip(values, shares, strict=True)
    )


def _logarithmic(values: Sequence[float]) -> tuple[float, ...]:
    total, after = fsum(value for value in values if value > 0), 0.0
    worth: dict[float, float] = {}
    for value, many in sorted(Counter(value for value in values if value > 0).items(), reverse=True):
        # Nothing has no logarithm: the most important unit doubles what is kept.
        before = after or value / 2
        after += value * many
        worth[value] = total * log1p((after - before) / before) / many
    return tuple(worth.get(value, value) for value in values)


_NORMALISATIONS: Mapping[str, Callable[[Sequence[float]], tuple[float, ...]]] = {
    "none": tuple,
    "l1": lambda values: _over(values, fsum(map(abs, values))),
    "l2": lambda values: _over(values, hypot(*values)),
    "max": lambda values: _over(values, max(map(abs, values))),
    "mean": lambda values: _over(values, fsum(map(abs, values)) / len(values)),
    "std": _standardised,
    "lamp": _lamp,
    "log": _logarithmic,
}
