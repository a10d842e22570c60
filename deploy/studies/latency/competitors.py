"""Other ways to choose kept counts, brought to the same measured time by a search over widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.errors import BenchmarkError
from benchmarks.tables.importance import importance_of
from deploy.run.speed.rounds import Counts
from deploy.studies.latency.rows import Competitor
from pruners.decide.choices import Choices, choices_of
from pruners.decide.search import largest_within
from pruners.errors import PruneError
from pruners.graph import Graph
from pruners.methods.group_norm import kept_by_library
from pruners.task import PruningTask

__all__ = ["NAMES", "at_the_time"]

NAMES = ("uniform", "uniform of full blocks", "torch-pruning", "torch-pruning 8", "torch-pruning 16")
_LIBRARY = "torch-pruning"


def at_the_time(
    name: str, task: PruningTask, graph: Graph, share: Callable[[Counts], float], limit: float
) -> Competitor:
    """Find the widest network of a competitor that takes no longer than ours, among up to ten widths.

    Parameters
    ----------
    name : str
        One of `NAMES`; a number is Torch-Pruning's ``round_to``.
    task : PruningTask
        Its ``multiple_of`` is a block of the runtime.
    graph : Graph
        The trace.
    share : callable
        Measures kept counts, as a share of the dense network's time.
    limit : float
        Our measured time, likewise.
    """
    every = choices_of(graph.groups, replace(task.constraints, multiple_of=1))

    try:
        counts_at = _library(name, task, graph) if name.startswith(_LIBRARY) else _uniform(name, task, graph, every)

        def attempt(width: float) -> tuple[float, tuple[float, Counts]]:
            counts = counts_at(width)
            measured = share(counts)
            return measured, (measured, counts)

        found = largest_within(attempt, limit, 1.0)
    except (PruneError, BenchmarkError) as error:
        return Competitor(name=name, reason=str(error))
    if found is None:
        return Competitor(name=name, reason="at no width that was tried it is as fast")
    measured, counts = found
    return Competitor(name=name, measured=measured, importance=importance_of(every.whole, counts))


def _uniform(name: str, task: PruningTask, graph: Graph, every: Choices) -> Callable[[float], Counts]:
    choices = every if name == "uniform" else choices_of(graph.groups, task.constraints)

    def counts(width: float) -> Counts:
        return {group: choices.nearest(group, width * size) for group, size in choices.whole.items()}

    return counts


def _library(name: str, task: PruningTask, graph: Graph) -> Callable[[float], Counts]:
    rounded = int(name.removeprefix(_LIBRARY) or 1)
    own = replace(task, constraints=replace(task.constraints, multiple_of=rounded))
    choices = choices_of(graph.groups, own.constraints)

    def counts(width: float) -> Counts:
        return {group: len(units) for group, units in kept_by_library(own, graph, choices, 1 - width).items()}

    return counts
