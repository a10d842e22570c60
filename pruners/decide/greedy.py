"""Greedy: remove the lowest-scored units of the network step by step; for a latency target, by score per time saved.

References
----------
Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (HALP), NeurIPS 2022, arXiv:2210.06659 (importance per
unit of time); Dantzig, "Discrete-Variable Extremum Problems", Operations Research 5, 1957 (the knapsack's ratio).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.landing import land
from pruners.decide.moves import Moves, block_means, moves_by

__all__ = ["greedy_counts", "greedy_moves"]

Keys = NDArray[np.float64]


def greedy_moves(choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget) -> Moves:
    """Take the legal step whose units score lowest on average, whatever its group.

    If every count is legal, that is one unit per move, lowest first. With alignment, the units of a block go together.
    Units with equal scores go in equal shares from all groups.

    If the budget is a predicted time, the step whose units score lowest *per time saved* goes first. The time saved is
    that in the network after the previous steps, since a layer's time depends on both its sides. Several times are
    summed, each as a share of its limit.

    Parameters
    ----------
    choices : Choices
        The legal counts; see `pruners.decide.choices.Choices`.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice, comparable between groups; low goes first.
    budget : Budget
        What the network may cost.
    """
    means = block_means(choices, scores)
    if not budget.times:
        return moves_by(choices, means)

    def all_times(counts: Mapping[str, int]) -> float:
        return sum(each.share(counts) for each in budget.times)

    neighbours = [each.model.neighbours() for each in budget.times]
    together = {name: frozenset[str]().union(*(near.get(name, ()) for near in neighbours)) for name in means}
    return moves_by(choices, _order_by_time(choices, means, all_times, together), means)


def greedy_counts(
    choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget, *, max_units: int | None = None
) -> dict[str, int]:
    """Remove the lowest-scored units until the budget is met or `max_units` are gone; see `greedy_moves` and `land`.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    return land(greedy_moves(choices, scores, budget), budget, max_removed=max_units)


def _order_by_time(
    choices: Choices,
    means: Mapping[str, Keys],
    cost: Callable[[Mapping[str, int]], float],
    neighbours: Mapping[str, frozenset[str]],
) -> dict[str, Keys]:
    """Return the place of each move in the order of score per unit of time saved.

    A step that saves no time waits until steps of other groups, or the next one of its own, make it pay off: its units
    are counted with those of the next step down that saves time.
    """
    counts = choices.ceiling
    order = {name: np.full(len(values), np.inf) for name, values in means.items()}
    best: dict[str, tuple[float, int]] = {}
    stale = set(means)
    whole = choices.whole
    place = 0
    while True:
        present = cost(counts)
        for name in stale:
            best[name] = _cheapest_step(choices, name, means[name], counts, cost, present)
        # Of steps that lose as little for the time, that of the group with the largest share left goes first.
        name = min(means, key=lambda each: (best[each][0], -counts[each] / whole[each]), default="")
        if not name or not np.isfinite(best[name][0]):
            return order
        taken = best[name][1]
        legal = choices.legal[name]
        at = legal.index(counts[name])
        first = len(legal) - 1 - at
        order[name][first : first + taken] = place
        place += 1
        counts[name] = legal[at - taken]
        stale = {each for each in neighbours.get(name, ()) if each in means} | {name}


def _cheapest_step(
    choices: Choices,
    name: str,
    means: Keys,
    counts: Mapping[str, int],
    cost: Callable[[Mapping[str, int]], float],
    present: float,
) -> tuple[float, int]:
    """Return the score lost per unit of time by a group's next step that saves time, and its number of moves."""
    legal = choices.legal[name]
    at, lost = legal.index(counts[name]), 0.0
    for below in range(at - 1, -1, -1):
        lost += max(0.0, float(means[len(legal) - 2 - below])) * (legal[below + 1] - legal[below])
        saved = present - cost({**counts, name: legal[below]})
        if saved > 0:
            return lost / saved, at - below
    return np.inf, 0
