"""Prune to a speed: measure plans, and refine the latency tables around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.errors import BenchmarkError
from deploy.bundles.pruning import SpeedLanding
from deploy.run.speed.correction import NO_PLAN, corrected, target_of
from deploy.run.speed.landing import landed, no_faster
from deploy.run.speed.rounds import Counts, Round, SpeedTable, counts_of, kept_index, measured, off
from deploy.tables.kept_share import kept_share_scores
from pruners.base import PruningMethod
from pruners.decide.blocks import held_blocks
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.exact.plan import exact_plan
from pruners.decide.goal import goal_of
from pruners.errors import NothingToPruneError, SurgeryError, TargetError
from pruners.graph import Graph, trace
from pruners.surgery import policy_of
from pruners.target import Target
from pruners.task import Pruned, PruningTask

__all__ = ["prune_to_speed"]

_CORRECTIONS = 4
_SURE = 1.25
"""Multiple of the requested time beyond which the smallest network's prediction is believed without measuring it."""


def prune_to_speed(
    method: PruningMethod, task: PruningTask, tables: Sequence[SpeedTable]
) -> tuple[Pruned, tuple[SpeedLanding, ...]]:
    """Refine the tables near the requested speed, prune, measure, and correct until the measured times meet it.

    Before the first pruning, plans around one of the requested speed are measured, since few of a table's random plans
    are that fast. A speed slightly out of reach by the table is refused only once the smallest network has been
    measured, and not if that is within the tolerance. Each of at most four corrections refines the tables around the
    plan and prunes again, if possible near the plan that was measured closest, where the tables are off by about as
    much. If all plans are off, one that is faster than requested is preferred to one that is slower. If four
    corrections are not enough, the kept plan is measured once more: a table that is off and a machine that is not
    steady look alike until then. A method that trains while pruning (`PruningMethod.trains`) prunes once: its first
    plan stands.

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
    BenchmarkError
        The first plan cannot be measured.
    """
    graph = trace(task.model, task.example_inputs, policy=policy_of(task))
    tables, floor = _near_speed(method, task, graph, tables)
    pruned = _first(method, task, tables, floor)
    rounds = [measured(pruned, counts_of(pruned, tables[0].model), tables)]
    ended = f"method {method.name!r} trains, so it prunes once" if method.trains else ""
    while not ended and off(rounds[-1], tables)[0] > 0:
        if len(rounds) > _CORRECTIONS:
            ended = f"{_CORRECTIONS} corrections were not enough{_unsteady(rounds, tables)}"
            break
        try:
            tables = [table.refine(rounds[-1].counts, t) for table, t in zip(tables, rounds[-1].measured, strict=True)]
            if (plan := corrected(method, task, graph, tables, rounds, floor)) is None:
                ended = "no other plan is predicted to be closer"
            else:
                rounds.append(measured(plan, counts_of(plan, tables[0].model), tables))
        # What was measured before is as close as it gets.
        except (TargetError, NothingToPruneError):
            ended = "as measured, no legal plan is predicted to be that fast"
        except (SurgeryError, BenchmarkError) as error:
            ended = f"the next plan failed: {error}"
    return landed(task, graph, tables, rounds, ended=ended)


def _first(method: PruningMethod, task: PruningTask, tables: Sequence[SpeedTable], floor: Counts) -> Pruned:
    """Prune for the requested speed; for half the tolerance more time if the plan is predicted to be too fast.

    Where channels go in large steps, the plan that keeps the most may be much faster than requested, and the next one
    up only slightly slower.
    """

    def within(pruned: Pruned) -> bool:
        counts = counts_of(pruned, tables[0].model)
        return any(table.predicted(counts) >= table.asked - table.tolerance for table in tables)

    pruned = method.prune(replace(task, target=target_of(tables, [table.asked for table in tables], floor)))
    if method.trains or within(pruned):
        return pruned
    slower = target_of(tables, [table.asked + table.tolerance / 2 for table in tables], floor)
    try:
        # A separate pruning: nothing to resume.
        second = method.prune(replace(task, target=slower, keeper=None))
    except NO_PLAN:
        return pruned
    return second if within(second) else pruned


def _near_speed(
    method: PruningMethod, task: PruningTask, graph: Graph, tables: Sequence[SpeedTable]
) -> tuple[list[SpeedTable], Counts]:
    """Refine the tables around a plan of the requested speed, for any method: the one that keeps the most units.

    If the smallest network is predicted to miss the speed by little, refine them around it first.

    Returns
    -------
    (list of SpeedTable, Mapping of str to int)
        The tables, and the counts of the smallest network.
    """
    asked = [table.asked for table in tables]
    _, _, removable, floor = _goal(method, task, graph, target_of(tables, asked))
    doubted = [table.asked < table.predicted(floor) <= _SURE * table.asked for table in tables]
    tables = [table.refine(floor, None) if doubt else table for table, doubt in zip(tables, doubted, strict=True)]
    choices, budget, _, smallest = _goal(method, task, graph, target_of(tables, asked, floor))
    try:
        counts, gone, _ = exact_plan(choices, kept_share_scores(choices), budget, blocks=removable)
    except TargetError:
        return tables, smallest  # out of reach: the method says so
    counts |= tables[0].model.without(gone)
    return [
        table if doubt and counts == floor else table.refine(counts, None)
        for table, doubt in zip(tables, doubted, strict=True)
    ], smallest


def _unsteady(rounds: Sequence[Round], tables: Sequence[SpeedTable]) -> str:
    """Measure the plan that will be kept again; return what differs by more than the tolerance, or what failed.

    Raises
    ------
    TargetError
        It takes as long as the dense network now.
    """
    kept, reason = rounds[kept_index(rounds, tables)], ""
    for table, before in zip(tables, kept.measured, strict=True):
        try:
            again = table.share(kept.counts)
        except BenchmarkError as error:
            reason = reason or f"; the closest plan could not be measured again: {error}"
            continue
        if again >= 1:
            raise no_faster(table, again, f"measured again after {_CORRECTIONS} corrections; {before:.2f} before")
        if abs(again - before) > table.tolerance:
            reason = reason or (
                f", and the machine is not steady enough for this tolerance: the plan that measured {before:.3f} of "
                f"the dense network's time on {table.model.backend} now measures {again:.3f}"
            )
    return reason


class _Goal(NamedTuple):
    """Legal choices, the limit, the residual blocks that may be removed, and the smallest network."""

    choices: Choices
    budget: Budget
    removable: tuple[str, ...]
    floor: Counts


def _goal(method: PruningMethod, task: PruningTask, graph: Graph, target: Target) -> _Goal:
    choices, budget = goal_of(target, task.constraints, graph)
    held = held_blocks(graph.blocks, graph.groups, task.constraints)
    removable = tuple(name for name in budget.known_blocks if method.removes_blocks and name not in held)
    return _Goal(choices, budget, removable, {**choices.floor, **budget.times[0].model.without(removable)})
