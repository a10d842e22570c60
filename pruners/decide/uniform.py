"""Uniform: keep the same fraction of every group, whatever the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.landing import land
from pruners.decide.moves import Moves, moves_by, removed_shares

__all__ = ["uniform_counts", "uniform_moves"]


def uniform_moves(choices: Choices, _scores: Mapping[str, Sequence[float]] | None = None) -> Moves:
    """Go down the curve ``kept = fraction * n_units``, to the nearest legal count of each group.

    Groups that would step at the same fraction do so in order of their kept share, then of the network; scores
    do not matter.
    """
    return moves_by(choices, removed_shares(choices))


def uniform_counts(choices: Choices, budget: Budget) -> dict[str, int]:
    """Keep the same fraction of every group: the largest one that meets the budget.

    A group ends at most one step above the fraction's count, unless landing on the budget takes more.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    return land(uniform_moves(choices), budget, even=True)
