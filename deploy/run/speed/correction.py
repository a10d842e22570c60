"""The next plan after one that missed the requested speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.run.speed.rounds import Counts, Round, SpeedTable, apart, counts_of
from pruners.base import PruningMethod
from pruners.decide.choices import Choices, choices_of
from pruners.errors import NothingToPruneError, SurgeryError, TargetError
from pruners.graph import Graph
from pruners.target import Target
from pruners.task import Pruned, PruningTask

__all__ = ["NO_PLAN", "corrected", "target_of"]

_ROOM = 1e-5
"""Share by which a limit is above the time that it is to admit: solvers stay a little below limits."""

NO_PLAN = (TargetError, NothingToPruneError, SurgeryError)
"""What a method raises if it finds no plan for a target."""


def target_of(tables: Sequence[SpeedTable], shares: Sequence[float], floor: Counts | None = None) -> Target:
    """Return the target of these predicted times.

    A time that the network of counts `floor`, the smallest, misses by no more than the tolerance becomes the time of
    that network.
    """

    def within_reach(table: SpeedTable, share: float) -> float:
        least = 0.0 if floor is None else (1 + _ROOM) * table.predicted(floor)
        return least if share < least <= share + table.tolerance else share

    first, *also = (
        Target(
            kept_fraction=min(within_reach(table, share), 0.999, 0.999 * table.model.time_ns() / table.dense_ns),
            table=table.model,
            dense_ns=table.dense_ns,
        )
        for table, share in zip(tables, shares, strict=True)
    )
    return replace(first, also=tuple(also))


def corrected(
    method: PruningMethod,
    task: PruningTask,
    graph: Graph,
    tables: Sequence[SpeedTable],
    rounds: Sequence[Round],
    floor: Counts,
) -> Pruned | None:
    """Prune again, for times corrected by what the measured plans were predicted to take; None if no plan is new.

    The result is near the closest plan if a new plan there is predicted to meet the times and leaves the network its
    own class where that plan does. Otherwise the last plan corrects the times, and any plan may follow; halfway between
    a faster and a slower plan if the corrected times lead to a known one.
    """

    def shares(one: Round) -> list[float]:
        return [_corrected_share(table, index, one, rounds) for index, table in enumerate(tables)]

    def new(pruned: Pruned) -> bool:
        return all(counts_of(pruned, tables[0].model) != one.counts for one in rounds)

    # A corrected target is a separate pruning: nothing to resume.
    anywhere = replace(task, target=target_of(tables, shares(rounds[-1]), floor), keeper=None)
    if not method.removes_blocks:  # a block more or less is no small step
        closest = min(rounds, key=lambda one: apart(one, tables))
        wanted, ranges = shares(closest), _around(closest.counts, choices_of(graph.groups, task.constraints), tables)
        constraints = replace(task.constraints, ranges=ranges)
        try:
            near = method.prune(replace(anywhere, target=target_of(tables, wanted, floor), constraints=constraints))
        except NO_PLAN:
            pass  # there may be one elsewhere
        else:
            counts = counts_of(near, tables[0].model)
            short = min(t - table.predicted(counts) - table.tolerance for table, t in zip(tables, wanted, strict=True))
            if new(near) and short <= 0 and near.form in ("module", closest.pruned.form):
                return near
    if new(pruned := method.prune(anywhere)):
        return pruned
    ends = [_bracket(table, index, rounds) for index, table in enumerate(tables)]
    if not any(ends):
        return None
    halfway = [
        share if end is None else sum(table.predicted(one.counts) for one in end) / 2
        for table, share, end in zip(tables, shares(rounds[-1]), ends, strict=True)
    ]
    pruned = method.prune(replace(anywhere, target=target_of(tables, halfway, floor)))
    return pruned if new(pruned) else None


def _corrected_share(table: SpeedTable, index: int, one: Round, rounds: Sequence[Round]) -> float:
    """Return the share to predict for a plan that measures as requested.

    It is interpolated between a faster and a slower plan. If there is none of either, the table is as far off as for
    the plan of `one`.
    """
    if (ends := _bracket(table, index, rounds)) is None:
        return table.asked * table.predicted(one.counts) / one.measured[index]
    low, high = (table.predicted(each.counts) for each in ends)
    faster, slower = (each.measured[index] for each in ends)
    return low + (table.asked - faster) / (slower - faster) * (high - low)


def _bracket(table: SpeedTable, index: int, rounds: Sequence[Round]) -> tuple[Round, Round] | None:
    """Return the measured plans between which the requested time lies: one faster and one slower.

    They are neighbours by predicted time, so that any plan in between, however it measures, replaces one of them. None
    if no plan is faster, none is slower, or all that are faster were predicted to be slower.
    """

    def predicted(one: Round) -> float:
        return table.predicted(one.counts)

    slower = [one for one in rounds if one.measured[index] > table.asked]
    above = min(slower, key=predicted, default=None)
    faster = [
        one
        for one in rounds
        if one.measured[index] <= table.asked and above is not None and predicted(one) < predicted(above)
    ]
    return None if above is None or not faster else (max(faster, key=predicted), above)


def _around(counts: Counts, choices: Choices, tables: Sequence[SpeedTable]) -> dict[str, tuple[int, int]]:
    """Return the range of each group that is up to a channel block, and at least one legal step, from a plan."""
    steps = [table.model.block_units() for table in tables]
    ranges = {}
    for name, size in choices.whole.items():
        count, step = counts.get(name, size), max(each.get(name, 1) for each in steps)
        below, above = choices.below(name, count), choices.above(name, count)
        ranges[name] = (
            max(0, min(count - step, count if below is None else below)),
            max(count + step, count if above is None else above),
        )
    return ranges
