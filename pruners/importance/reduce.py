"""Reduce scores per unit and member to one score per unit: the members' mean, sum or maximum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Literal, get_args

from pruners.errors import MethodError
from pruners.importance.scores import Scores

__all__ = ["MemberScores", "Reduction", "reduce_members", "reduction_names"]

MemberScores = dict[str, tuple[tuple[float | None, ...], ...]]
"""For each group, a row for each member; None if a unit has no channel in that member."""

Reduction = Literal["mean", "sum", "max"]


def reduction_names() -> tuple[str, ...]:
    """List the reductions."""
    return get_args(Reduction)


def reduce_members(scores: Mapping[str, Sequence[Sequence[float | None]]], how: Reduction) -> Scores:
    """Reduce the members of each group to one number per unit.

    A unit's number is taken over the members in which it has channels.

    Parameters
    ----------
    scores : Mapping of str to rows
        ``scores[group][member][unit]``.
    how : {"mean", "sum", "max"}
        How the members' numbers are combined.

    Raises
    ------
    MethodError
        `how` is none of these, or a unit has no number in any member.

    References
    ----------
    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900, section 3.4 (group-level
    importance).
    """
    if how not in _REDUCTIONS:
        raise MethodError(f"unknown reduction {how!r} (there are: {', '.join(_REDUCTIONS)})")
    reduced: Scores = {}
    for name, rows in scores.items():
        per_unit = [[value for value in values if value is not None] for values in zip(*rows, strict=True)]
        missing = next((unit for unit, values in enumerate(per_unit) if not values), None)
        if missing is not None:
            raise MethodError(f"unit {missing} of group {name!r} has no score in any member; exclude the group")
        reduced[name] = tuple(_REDUCTIONS[how](values) for values in per_unit)
    return reduced


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


_REDUCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = {"mean": _mean, "sum": fsum, "max": max}
