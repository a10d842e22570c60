"""Greedy: the lowest-scored units of the whole network go, a step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.landing import land
from pruners.decide.moves import Moves, block_means, moves_by

__all__ = ["greedy_counts", "greedy_moves"]


def greedy_moves(choices: Choices, scores: Mapping[str, Sequence[float]]) -> Moves:
    """Take the legal step whose units score lowest on average, whatever its group.

    With every count legal that is one unit a move, lowest first. With alignment the units of a block go together.
    Units that score alike fall from all groups in equal shares.

    Parameters
    ----------
    choices : Choices
        What may be decided; see `pruners.decide.choices.Choices`.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice, comparable between groups; low goes first.
    """
    return moves_by(choices, block_means(choices, scores))


def greedy_counts(
    choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget, *, max_units: int | None = None
) -> dict[str, int]:
    """Remove lowest-scored units until the budget is met or `max_units` are gone; see `greedy_moves` and `land`.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    return land(greedy_moves(choices, scores), budget, max_removed=max_units)
