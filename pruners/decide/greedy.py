"""Global greedy: remove the lowest-scored units of the whole network until the budget is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices

__all__ = ["greedy_counts"]


class _Move(NamedTuple):
    """Take the `order`-th group, `name`, down from count `before` to the next legal count `after`."""

    score: float
    order: int
    before: int
    after: int
    name: str


def greedy_counts(
    choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget, *, max_units: int | None = None
) -> dict[str, int]:
    """Remove lowest-scored units, whatever their group, until the budget is met; then give back what still fits.

    One move takes a group to its next smaller legal count; its score is the mean of the units that go. With every
    count legal that is one unit a move, lowest first. With alignment the units of a block go together. Equal scores
    fall in the order of the groups. Then moves are undone, highest score first, while the budget holds: the
    result is *maximal*, no group can take one step up.

    Parameters
    ----------
    choices : Choices
        See there.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice; low goes first.
    budget : Budget
        See there.
    max_units : int, optional
        Stop after this many units (at least one move is made), be the budget met or not.

    Returns
    -------
    dict of str to int
        Kept count of every group in `choices`.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    budget.require_reachable(choices)
    moves = _moves(choices, scores)
    if max_units is not None:
        removed = accumulate(move.before - move.after for move in moves)
        moves = moves[: max(1, sum(total <= max_units for total in removed))]

    def counts_after(n_moves: int) -> dict[str, int]:
        # A group's moves come in descending order of counts, so the last one decides.
        return choices.whole | {move.name: move.after for move in moves[:n_moves]}

    few, many = 0, len(moves)
    while few < many:
        middle = (few + many) // 2
        if budget.met(counts_after(middle)):
            many = middle
        else:
            few = middle + 1
    counts = counts_after(many)
    for move in reversed(moves[:many]):
        # A group that could not take its last step back cannot take an earlier one: costs only grow from here.
        if counts[move.name] == move.after and budget.met({**counts, move.name: move.before}):
            counts[move.name] = move.before
    return counts


def _moves(choices: Choices, scores: Mapping[str, Sequence[float]]) -> list[_Move]:
    moves = []
    for order, (name, legal) in enumerate(choices.legal.items()):
        if len(legal) == 1:
            continue
        ascending = sorted(scores[name])
        size = legal[-1]
        if len(ascending) != size:
            raise ValueError(f"group {name!r} has {size} units but {len(ascending)} scores")
        lowest = float("-inf")
        for before, after in pairwise(reversed(legal)):
            block = ascending[size - before : size - after]
            # Equal means may differ in the last bit; a group's moves must keep their order all the same.
            lowest = max(lowest, sum(block) / len(block))
            moves.append(_Move(lowest, order, before, after, name))
    return sorted(moves, key=lambda move: (move.score, move.order, -move.before))
