"""Prune to a speed: measure plans, and refine the latency tables around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple, TypeAlias

from deploy.bundles.pruning import SpeedLanding
from pruners.base import PruningMethod
from pruners.decide.blocks import held_blocks
from pruners.decide.choices import Choices, choices_of
from pruners.decide.exact.plan import exact_counts
from pruners.decide.goal import goal_of
from pruners.decide.latency import LatencyModel
from pruners.errors import NothingToPruneError, SurgeryError, TargetError
from pruners.graph import Graph, trace
from pruners.surgery import policy_of
from pruners.target import Target
from pruners.task import Pruned, PruningTask

__all__ = [
    "Counts",
    "Round",
    "SpeedTable",
    "counts_of",
    "importance_of",
    "kept_share_scores",
    "landed",
    "measured",
    "prune_to_speed",
]

_CORRECTIONS = 4
_SURE = 1.25
"""Multiple of the requested time beyond which the smallest network's prediction is believed without measuring it."""
_WIDTHS = 200
"""Number of widths of uniform pruning to try."""

_NO_PLAN = (TargetError, NothingToPruneError, SurgeryError)
"""What a method raises if it finds no plan for a target."""

Counts: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTable:
    """Latency table of one target, with ways to measure plans and to refine it.

    Parameters
    ----------
    model : LatencyModel
        Predicts times.
    dense_ns : float
        Time of the dense network as measured for this model.
    asked : float
        Requested time, as a share of the dense network's.
    tolerance : float
        How far off the measured time may be, also as a share.
    threads : int
        Threads of one call.
    share : callable
        ``share(counts)`` measures the time of a plan as a share of the dense network's.
    refine : callable
        ``refine(counts, share)`` measures that plan by layer, and others around it, and returns the table fitted to all
        of them. If `share` is None, it is measured as well, and a resumed run gets the same table again.
    """

    model: LatencyModel
    dense_ns: float
    asked: float
    tolerance: float
    threads: int
    share: Callable[[Counts], float]
    refine: Callable[[Counts, float | None], SpeedTable]

    def predicted(self, counts: Counts) -> float:
        """Return the predicted time of a plan as a share of the dense network's."""
        return self.model.time_ns(counts) / self.dense_ns


class Round(NamedTuple):
    """A plan, with its predicted and measured time per table, as shares of the dense network's time."""

    pruned: Pruned
    counts: dict[str, int]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]


def prune_to_speed(
    method: PruningMethod, task: PruningTask, tables: Sequence[SpeedTable]
) -> tuple[Pruned, tuple[SpeedLanding, ...]]:
    """Refine the tables near the requested speed, prune, measure, and correct until the measured times meet it.

    Before the first pruning, plans around one of the requested speed are measured, since few of a table's random plans
    are that fast. A speed slightly out of reach by the table is refused only once the smallest network has been
    measured. Each of at most four corrections refines the tables around the plan and prunes again, if possible near the
    closest plan so far, where the tables are off by about as much. If all plans are off, one that is faster than
    requested is preferred to one that is slower.
    A method that trains while pruning (`PruningMethod.trains`) prunes once: its first plan stands.

    Parameters
    ----------
    method : PruningMethod
        Decides the plan.
    task : PruningTask
        Its target is replaced.
    tables : sequence of SpeedTable
        One for each speed to meet.

    Returns
    -------
    (Pruned, tuple of SpeedLanding)
        One for each table.

    Raises
    ------
    TargetError
        A speed is out of reach, or the closest plan is measured to be no faster than the dense network.
    """
    graph = trace(task.model, task.example_inputs, policy=policy_of(task))
    tables = _near_speed(task, graph, tables, blocks=method.removes_blocks)
    rounds: list[Round] = []
    pruned = method.prune(replace(task, target=_asked(tables)))
    while True:
        counts = counts_of(pruned, tables[0].model)
        if any(counts == one.counts for one in rounds):  # there is nothing between the known plans
            break
        rounds.append(measured(pruned, counts, tables))
        if method.trains or _off(rounds[-1], tables)[0] == 0 or len(rounds) > _CORRECTIONS:
            break
        tables = [table.refine(counts, share) for table, share in zip(tables, rounds[-1].measured, strict=True)]
        try:
            pruned = _corrected(method, task, graph, tables, rounds)
        except _NO_PLAN:
            break  # the known plans are as close as it gets
    return landed(task, graph, tables, rounds)


def _near_speed(task: PruningTask, graph: Graph, tables: Sequence[SpeedTable], *, blocks: bool) -> list[SpeedTable]:
    """Refine the tables around a plan of the requested speed, for any method: the one that keeps the most units.

    If the smallest legal network, with `blocks` without its residual blocks, is predicted to miss the speed by little,
    refine them around it first.
    """
    choices, budget = goal_of(_asked(tables), task.constraints, graph)
    held = held_blocks(graph.blocks, graph.groups, task.constraints)
    removable = [name for name in budget.known_blocks if blocks and name not in held]
    floor = {**choices.floor, **tables[0].model.without(removable)}
    doubted = [table.asked < table.predicted(floor) <= _SURE * table.asked for table in tables]
    tables = [table.refine(floor, None) if doubt else table for table, doubt in zip(tables, doubted, strict=True)]
    choices, budget = goal_of(_asked(tables), task.constraints, graph)
    if not budget.met(choices.floor):
        return tables  # the method says so, or removes residual blocks
    counts = exact_counts(choices, kept_share_scores(choices), budget)
    return [
        table if doubt and counts == floor else table.refine(counts, None)
        for table, doubt in zip(tables, doubted, strict=True)
    ]


def _corrected(
    method: PruningMethod, task: PruningTask, graph: Graph, tables: Sequence[SpeedTable], rounds: Sequence[Round]
) -> Pruned:
    """Prune again, for times corrected by what the measured plans were predicted to take.

    The result is near the closest plan if a new plan there is predicted to meet the times and leaves the network its
    own class where that plan does. Otherwise the last plan corrects the times, and any plan may follow.
    """

    def shares(one: Round) -> list[float]:
        return [_corrected_share(table, index, one, rounds) for index, table in enumerate(tables)]

    # A corrected target is a separate pruning: nothing to resume.
    anywhere = replace(task, target=_target(tables, shares(rounds[-1])), keeper=None)
    if method.removes_blocks:  # a block more or less is no small step
        return method.prune(anywhere)
    closest = min(rounds, key=lambda one: _off(one, tables))
    wanted, ranges = shares(closest), _around(closest.counts, choices_of(graph.groups, task.constraints), tables)
    nearby = replace(anywhere, target=_target(tables, wanted), constraints=replace(task.constraints, ranges=ranges))
    try:
        near = method.prune(nearby)
    except _NO_PLAN:
        return method.prune(anywhere)
    counts = counts_of(near, tables[0].model)
    short = min(share - table.predicted(counts) - table.tolerance for table, share in zip(tables, wanted, strict=True))
    new = all(counts != one.counts for one in rounds)
    return near if new and short <= 0 and near.form in ("module", closest.pruned.form) else method.prune(anywhere)


def _corrected_share(table: SpeedTable, index: int, one: Round, rounds: Sequence[Round]) -> float:
    """Return the share to predict for a plan that measures as requested.

    It is interpolated between the closest faster and slower plans measured so far. If all are faster or all slower, or
    their predictions are not in this order, the table is as far off as for the plan of `one`.
    """
    faster = [each for each in rounds if each.measured[index] <= table.asked]
    slower = [each for each in rounds if each.measured[index] > table.asked]
    if faster and slower:
        below = max(faster, key=lambda each: each.measured[index])
        above = min(slower, key=lambda each: each.measured[index])
        low, high = table.predicted(below.counts), table.predicted(above.counts)
        if low < high:
            apart = above.measured[index] - below.measured[index]
            return low + (table.asked - below.measured[index]) / apart * (high - low)
    return table.asked * table.predicted(one.counts) / one.measured[index]


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


def counts_of(pruned: Pruned, model: LatencyModel) -> dict[str, int]:
    """Return the kept counts of each group in a plan, 0 for removed residual blocks and their groups.

    Raises
    ------
    TargetError
        The plan removes a block that the model has no time without.
    """
    if unknown := sorted(set(pruned.plan.blocks) - model.blocks.keys()):
        raise TargetError(
            f"the plan removes block {unknown[0]!r}, and the latency table on {model.backend} knows no network without "
            "it: leave out `by`, or set structures to units"
        )
    return {name: len(kept) for name, kept in pruned.plan.kept.items()} | model.without(pruned.plan.blocks)


def measured(pruned: Pruned, counts: dict[str, int], tables: Sequence[SpeedTable]) -> Round:
    """Measure a plan on every backend."""
    predicted = tuple(table.predicted(counts) for table in tables)
    return Round(pruned, counts, predicted, tuple(table.share(counts) for table in tables))


def landed(
    task: PruningTask, graph: Graph, tables: Sequence[SpeedTable], rounds: Sequence[Round]
) -> tuple[Pruned, tuple[SpeedLanding, ...]]:
    """Return the closest of the measured plans, and how closely it meets each table's speed.

    Parameters
    ----------
    task : PruningTask
        The task that was pruned.
    graph : Graph
        Trace of its model.
    tables : sequence of SpeedTable
        One for each speed, fitted to everything measured so far.
    rounds : sequence of Round
        At least one.

    Raises
    ------
    TargetError
        The closest plan is measured to be no faster than the dense network.
    """
    kept = min(range(len(rounds)), key=lambda index: _off(rounds[index], tables))
    best = rounds[kept]
    for table, share in zip(tables, best.measured, strict=True):
        if share >= 1:
            raise TargetError(
                f"{1 / table.asked:.2f}x the speed on {table.model.backend} was asked for, but the closest plan takes "
                f"{share:.2f} of the dense network's time; measure on a quieter machine, or ask for another speed"
            )
    choices = choices_of(graph.groups, replace(task.constraints, multiple_of=1))
    uniform = _as_fast(choices, [table.model for table in tables], best.counts)
    landings = tuple(
        SpeedLanding(
            backend=table.model.backend,
            threads=table.threads,
            asked=table.asked,
            tolerance=table.tolerance,
            predicted=tuple(one.predicted[index] for one in rounds),
            measured=tuple(one.measured[index] for one in rounds),
            kept_round=kept,
            macs=best.pruned.macs_after / best.pruned.macs_before,
            importance=importance_of(choices, best.counts),
            macs_by_flops=None if uniform is None else graph.macs(uniform) / graph.macs(),
            importance_by_flops=None if uniform is None else importance_of(choices, uniform),
        )
        for index, table in enumerate(tables)
    )
    return best.pruned, landings


def _asked(tables: Sequence[SpeedTable]) -> Target:
    return _target(tables, [table.asked for table in tables])


def _target(tables: Sequence[SpeedTable], shares: Sequence[float]) -> Target:
    first, *also = (
        Target(
            kept_fraction=min(share, 0.999, 0.999 * table.model.time_ns() / table.dense_ns),
            table=table.model,
            dense_ns=table.dense_ns,
        )
        for table, share in zip(tables, shares, strict=True)
    )
    return replace(first, also=tuple(also))


def _off(one: Round, tables: Sequence[SpeedTable]) -> tuple[int, float]:
    """Rank how far off a plan is, then by how much.

    0 is within the tolerance, 1 faster than requested, 2 slower, 3 no faster than the dense network.
    """
    apart = [measured - table.asked for measured, table in zip(one.measured, tables, strict=True)]
    beyond = [off - table.tolerance for off, table in zip(apart, tables, strict=True)]
    worst = max(range(len(tables)), key=lambda index: beyond[index])
    if max(one.measured) >= 1:
        return 3, apart[worst]
    if beyond[worst] > 0:
        return 2, apart[worst]
    nearest = max(off + table.tolerance for off, table in zip(apart, tables, strict=True))
    return (0 if nearest >= 0 else 1), abs(max(apart))


def _as_fast(choices: Choices, models: Sequence[LatencyModel], counts: Counts) -> dict[str, int] | None:
    """Return the largest uniform-width network that is predicted to be as fast; None if there is none."""
    limits = [model.time_ns(counts) for model in models]
    for width in range(_WIDTHS, 0, -1):
        uniform = {name: choices.nearest(name, width / _WIDTHS * size) for name, size in choices.whole.items()}
        if all(model.time_ns(uniform) <= limit for model, limit in zip(models, limits, strict=True)):
            return uniform
    return None


def kept_share_scores(choices: Choices) -> dict[str, list[float]]:
    """Return scores of units whose sum ranks plans as `importance_of` does; the first units of a group count most."""
    whole = choices.whole
    return {
        name: [sqrt((unit + 1) / whole[name]) - sqrt(unit / whole[name]) for unit in range(whole[name])]
        for name in choices.movable
    }


def importance_of(choices: Choices, counts: Counts) -> float:
    """Return the mean over groups of the square root of the share of units kept."""
    whole = choices.whole
    return sum(sqrt(counts.get(name, size) / size) for name, size in whole.items()) / len(whole)
