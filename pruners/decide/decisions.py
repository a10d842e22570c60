"""The decisions by name: how many units each group keeps, given scores, legal counts and a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.exact.plan import exact_counts
from pruners.decide.global_threshold import global_moves
from pruners.decide.greedy import greedy_moves
from pruners.decide.landing import land
from pruners.decide.local import local_moves
from pruners.decide.moves import Moves, within_classes
from pruners.decide.uniform import uniform_moves
from pruners.errors import MethodError, did_you_mean

__all__ = ["decide", "decision_names"]


class _Decision(NamedTuple):
    """An order of moves, and whether groups must stay even when units are given back."""

    order: Callable[[Choices, Mapping[str, Sequence[float]], Budget], Moves]
    even: bool


_DECISIONS = {
    "local": _Decision(lambda choices, scores, _: local_moves(choices, scores), even=True),
    "uniform": _Decision(lambda choices, scores, _: uniform_moves(choices, scores), even=True),
    "global": _Decision(lambda choices, scores, _: global_moves(choices, scores), even=False),
    "greedy": _Decision(greedy_moves, even=False),
}


_EXACT = "exact"


def decision_names() -> tuple[str, ...]:
    """Return the names of the decisions that take any budget."""
    return tuple(_DECISIONS)


def decide(
    name: str,
    choices: Choices,
    scores: Mapping[str, Sequence[float]],
    budget: Budget,
    *,
    max_removed: int | None = None,
    classes: Iterable[Collection[str]] | None = None,
) -> dict[str, int]:
    """Return how many units each group keeps.

    ========= ===========================================================================================
    local     the same fraction of every group; scores rank within a group and break ties between groups
    uniform   the same fraction of every group; scores are not read (`pruners.decide.units` says which stay)
    global    one threshold for all units of the network
    greedy    the lowest-scored units of the network (with aligned counts, the lowest blocks on average); for a
              predicted time, the lowest score per time saved
    exact     the highest sum of kept scores within a predicted time (`pruners.decide.exact.plan`)
    ========= ===========================================================================================

    `global` and `greedy` differ only if not every count is legal. All land at or below the budget, by less than its
    tolerance if legal steps are small enough; `pruners.decide.landing.landing_of` says how closely. The same arguments
    give the same counts.

    Parameters
    ----------
    name : str
        One of `decision_names`, or ``exact``.
    choices : Choices
        The legal counts; for a later step ``choices.left(counts)``.
    scores : Mapping of str to sequence of float
        One number per present unit of each of ``choices.movable``; low goes first.
    budget : Budget
        What the network may cost.
    max_removed : int, optional
        Stop after this many units (but at least one legal step), whether or not the budget is met.
    classes : iterable of collection of str, optional
        Rank only within each class of groups, and remove the same share of units from every class
        (`pruners.decide.isomorphic`).

    Returns
    -------
    dict of str to int
        Kept count of every group in `choices`.

    Raises
    ------
    MethodError
        No decision has that name, or `classes` are given to ``exact``.
    TargetError
        The budget is not reachable.
    """
    if name == _EXACT:
        if classes is not None:
            raise MethodError("the decision 'exact' does not rank within classes of groups; take greedy or global")
        return exact_counts(choices, scores, budget, max_removed=max_removed)
    if name not in _DECISIONS:
        known = (*_DECISIONS, _EXACT)
        meant = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
        raise MethodError(f"unknown decision {name!r}{meant}")
    decision = _DECISIONS[name]
    moves = decision.order(choices, scores, budget)
    if classes is not None:
        moves = within_classes(moves, classes)
    return land(moves, budget, max_removed=max_removed, even=decision.even)
