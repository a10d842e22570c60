"""Which of the measured plans is kept, and how closely it meets the requested speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.tables.importance import importance_of
from deploy.bundles.pruning import SpeedLanding
from deploy.run.speed.rounds import Counts, Round, SpeedTable, kept_index, misses
from pruners.decide.choices import Choices, choices_of
from pruners.decide.latency import LatencyModel
from pruners.errors import TargetError
from pruners.graph import Graph
from pruners.task import Pruned, PruningTask

__all__ = ["landed", "no_faster"]

_WIDTHS = 200
"""Number of widths of uniform pruning to try."""


def landed(
    task: PruningTask, graph: Graph, tables: Sequence[SpeedTable], rounds: Sequence[Round], *, ended: str
) -> tuple[Pruned, tuple[SpeedLanding, ...]]:
    """Return the closest of the measured plans, and how closely it meets each table's speed.

    Parameters
    ----------
    task : PruningTask
        The task that was pruned.
    graph : Graph
        Trace of its model.
    tables : sequence of SpeedTable
        One for each speed, as refined before the last plan was decided.
    rounds : sequence of Round
        At least one.
    ended : str
        Why there are no more rounds, in case the closest plan is off.

    Raises
    ------
    TargetError
        The closest plan is measured to be no faster than the dense network.
    """
    kept = kept_index(rounds, tables)
    best = rounds[kept]
    for table, share in zip(tables, best.measured, strict=True):
        if share >= 1:
            raise no_faster(table, share, ended)
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
            why_off=_why_off(index, best, tables, ended),
            macs=best.pruned.macs_after / best.pruned.macs_before,
            importance=importance_of(choices.whole, best.counts),
            macs_by_flops=None if uniform is None else graph.macs(uniform) / graph.macs(),
            importance_by_flops=None if uniform is None else importance_of(choices.whole, uniform),
        )
        for index, table in enumerate(tables)
    )
    return best.pruned, landings


def no_faster(table: SpeedTable, share: float, details: str) -> TargetError:
    """Return the refusal of a closest plan that takes this share of the dense network's time, 1 or more."""
    return TargetError(
        f"{1 / table.asked:.2f}x the speed on {table.model.backend} was asked for, but the closest plan takes "
        f"{share:.2f} of the dense network's time ({details}); measure on a quieter machine, or ask for another speed"
    )


def _why_off(index: int, one: Round, tables: Sequence[SpeedTable], ended: str) -> str:
    """Return why a plan misses a table's speed; empty if it does not."""
    missed = misses(one, tables)
    if abs(missed[index]) <= tables[index].tolerance:
        return ""
    deciding = max(range(len(tables)), key=lambda each: missed[each] + tables[each].tolerance)
    if missed[index] < 0 and deciding != index:
        other = tables[deciding]
        return f"the speed on {other.model.backend}, threads {other.threads}, decides"
    return ended


def _as_fast(choices: Choices, models: Sequence[LatencyModel], counts: Counts) -> dict[str, int] | None:
    """Return the largest uniform-width network that is predicted to be as fast; None if there is none."""
    limits = [model.time_ns(counts) for model in models]
    for width in range(_WIDTHS, 0, -1):
        uniform = {name: choices.nearest(name, width / _WIDTHS * size) for name, size in choices.whole.items()}
        if all(model.time_ns(uniform) <= limit for model, limit in zip(models, limits, strict=True)):
            return uniform
    return None
