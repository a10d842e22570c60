"""`land` follows an order of moves until a budget is met, as closely as is legal; `Landing` says how closely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.moves import Moves

__all__ = ["Landing", "land", "landing_of"]

_NEIGHBOURS = 2000


def land(moves: Moves, budget: Budget, *, max_removed: int | None = None, even: bool = False) -> dict[str, int]:
    """Make the fewest first moves that meet the budget, then give back the steps that still fit.

    Moves are undone, last first, while the budget holds. In the end no group can take one step up. If the landing is
    still ``budget.tolerance`` or more below the limit, single steps are exchanged (one group down, another one up) as
    long as that lands closer.

    Parameters
    ----------
    moves : Moves
        In the order in which they are made; see `pruners.decide.moves.Moves`.
    budget : Budget
        What the network may cost.
    max_removed : int, optional
        Stop after this many units (but at least one move), whether or not the budget is met.
    even : bool
        Give back at most one step to each group, unless landing on the budget takes more; for orders that keep groups
        even.

    Returns
    -------
    dict of str to int
        Kept count of every group in ``moves.choices``.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    budget.require_reachable(moves.choices)
    most = moves.within(max_removed)
    few, many = min(moves.n_forced, most), most
    while few < many:
        middle = (few + many) // 2
        if budget.met(moves.counts(middle)):
            many = middle
        else:
            few = middle + 1
    counts = moves.counts(many)
    if not budget.met(counts) or many <= moves.n_forced:
        return counts
    if even:
        _give_back(moves, many, budget, counts, once=True)
    if not even or not budget.landed(counts):
        _give_back(moves, many, budget, counts, once=False)
    _exchange(moves.choices, budget, counts, max_removed)
    return counts


def _give_back(moves: Moves, n_moves: int, budget: Budget, counts: dict[str, int], *, once: bool) -> None:
    done: set[str] = set()
    for name, count, larger in moves.upwards(n_moves):
        if name in done or counts[name] != count:
            continue
        counts[name] = larger
        if not budget.met(counts):
            # A group that cannot take its last step back cannot take an earlier one: costs only grow from here.
            counts[name] = count
            done.add(name)
        elif once:
            done.add(name)


def _exchange(choices: Choices, budget: Budget, counts: dict[str, int], max_removed: int | None) -> None:
    """Take one group down and another one up, or only up, as long as that lands closer."""
    while not budget.landed(counts):
        better = _closest_neighbour(choices, budget, counts, max_removed)
        if better is None:
            return
        counts.update(better)


def _closest_neighbour(
    choices: Choices, budget: Budget, counts: Mapping[str, int], max_removed: int | None
) -> dict[str, int] | None:
    """Return the neighbour that lands closest, or the first that lands on the budget; None if none is closer.

    Neighbours are tried nearest the limit first, as if the costs of their two steps simply added up.
    """
    down = {name: smaller for name in choices.legal if (smaller := choices.below(name, counts[name])) is not None}
    up = {name: larger for name in choices.legal if (larger := choices.above(name, counts[name])) is not None}
    present = budget.cost(counts)
    fewer: list[dict[str, int]] = [{}, *({name: count} for name, count in down.items())]
    more = [{name: count} for name, count in up.items()]
    saved = np.array([present - budget.cost({**counts, **step}) for step in fewer])
    added = np.array([budget.cost({**counts, **step}) - present for step in more])
    distance = np.abs(budget.limit - present + saved[:, None] - added[None, :])
    removable = None if max_removed is None else max_removed - sum(choices.whole.values())
    best, closest = None, present
    for index in np.argsort(distance, axis=None, kind="stable")[:_NEIGHBOURS].tolist():
        first, second = divmod(index, len(more))
        trial = {**counts, **fewer[first], **more[second]}
        if fewer[first].keys() == more[second].keys() or (removable is not None and -sum(trial.values()) > removable):
            continue
        cost = budget.cost(trial)
        if closest < cost <= budget.limit:
            best, closest = trial, cost
            if budget.landed(trial):
                break
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """Where counts land, compared with what was asked.

    Parameters
    ----------
    of : str
        What is counted.
    asked, kept : float
        Shares of the dense cost: the limit, and what the counts cost. If several times are limited, shares of the one
        that is closest to its limit.
    step : str
        The group whose next larger legal count costs least, or another step that could be undone; empty if every group
        is at its largest.
    above : float
        Share of the dense cost with that step; infinite if there is none.
    close : bool
        Whether the cost is at the limit, or below it by less than the budget's tolerance.
    """

    of: str
    asked: float
    kept: float
    step: str
    above: float
    close: bool

    def __str__(self) -> str:
        """Return in one sentence what was asked, where it landed, and why not closer."""
        summary = (
            f"{self.of}: {self.kept:.2%} of the time allowed is predicted, on the backend closest to its limit"
            if self.of == "latency" and self.asked == 1
            else f"{self.of}: {self.kept:.2%} of the dense network's is predicted, at most {self.asked:.2%} was allowed"
            if self.of == "latency"
            else f"{self.of}: {self.kept:.2%} of the dense network are kept, at most {self.asked:.2%} were asked for"
        )
        if self.close:
            return summary
        if not self.step:
            return f"{summary}; every group is at the largest count that its bounds allow"
        return f"{summary}; the smallest legal step up, of {self.step!r}, would give {self.above:.2%}"


def landing_of(
    choices: Choices, counts: Mapping[str, int], budget: Budget, others: Mapping[str, float] | None = None
) -> Landing:
    """Return where `counts` land; groups missing from `counts` are at their present size.

    Parameters
    ----------
    choices : Choices
        Legal counts of each group.
    counts : Mapping of str to int
        Units kept.
    budget : Budget
        The limit and what counts cost.
    others : Mapping of str to float, optional
        Cost of the network after steps up other than those of groups, by name.
    """
    full = choices.whole | dict(counts)
    steps = {name: choices.above(name, count) for name, count in full.items() if name in choices.legal}
    costs = {name: budget.cost({**full, name: larger}) for name, larger in steps.items() if larger is not None}
    costs |= others or {}
    step = min(costs, key=lambda name: costs[name], default="")
    dense = budget.asked_of if len(budget.times) < 2 else budget.limit
    return Landing(
        of=budget.of,
        asked=budget.limit / dense,
        kept=budget.cost(full) / dense,
        step=step,
        above=costs[step] / dense if step else float("inf"),
        close=budget.landed(full),
    )
