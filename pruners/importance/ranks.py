"""How similar two rankings are: Spearman's correlation, per group, over all groups, and after normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, hypot

from pruners.importance.normalise import normalise
from pruners.importance.scores import Scores

__all__ = ["Correlation", "correlate", "ranks", "spearman"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Rank correlation of a criterion with the oracle; None if there is nothing to rank.

    Parameters
    ----------
    per_group : Mapping of str to float or None
        Spearman's correlation within each group.
    per_layer : float or None
        Mean of `per_group`, over the groups that have one.
    overall : float or None
        Over the units of all groups, with unnormalised scores.
    overall_l2 : float or None
        As `overall`, with the criterion's scores divided by their l2 norm in each group.
    """

    per_group: Mapping[str, float | None]
    per_layer: float | None
    overall: float | None
    overall_l2: float | None


def correlate(scores: Scores, oracle: Scores) -> Correlation:
    """Compare a criterion with the oracle as in tables 1, 4 and 5 of the Taylor paper.

    Parameters
    ----------
    scores, oracle : dict of str to tuple of float
        The same groups and units; the oracle is never normalised.

    References
    ----------
    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
    arXiv:1611.06440, section 3.1 (equation 12).
    """
    per_group = {name: spearman(values, oracle[name]) for name, values in scores.items()}
    there = [value for value in per_group.values() if value is not None]
    exact = [value for name in scores for value in oracle[name]]
    return Correlation(
        per_group=per_group,
        per_layer=fsum(there) / len(there) if there else None,
        overall=spearman(_joined(scores), exact),
        overall_l2=spearman(_joined(normalise(scores, "l2")), exact),
    )


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the correlation of the ranks of two samples; None if one of them is constant.

    Without ties this is ``1 - 6 * sum d^2 / (n * (n^2 - 1))``; equal values share the mean of their ranks.

    Raises
    ------
    ValueError
        The samples have unequal lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"samples of {len(first)} and {len(second)} values have no correlation")
    middle = (len(first) + 1) / 2
    a, b = ([rank - middle for rank in ranks(values)] for values in (first, second))
    lengths = hypot(*a) * hypot(*b)
    if not lengths:
        return None
    return max(-1.0, min(1.0, fsum(x * y for x, y in zip(a, b, strict=True)) / lengths))


def ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 1, ascending; equal values share the mean of theirs.

    >>> ranks([10.0, 30.0, 20.0, 30.0])
    [1.0, 3.5, 2.0, 3.5]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for position in order[start:end]:
            ranked[position] = (start + 1 + end) / 2
        start = end
    return ranked


def _joined(scores: Scores) -> list[float]:
    return [value for values in scores.values() for value in values]
