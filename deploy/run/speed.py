"""Pruning to a speed: a latency table of the dense network, and plans corrected by what they measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.layers.process import session_process
from benchmarks.machine.machine import ThisMachine
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import build_table, plan_timer
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.backend_options import compile_options
from deploy.recipe import Recipe
from deploy.run.run_stages import speed_backend
from deploy.tables.latency_model import latency_model
from deploy.tables.plan_space import DENSE, PLAN_SPACE, write_plan_space
from pruners.base import PruningMethod
from pruners.channels.outputs import usual_outputs
from pruners.decide.latency import LatencyModel
from pruners.errors import TargetError
from pruners.graph import trace
from pruners.policy import Policy
from pruners.registry import create
from pruners.target import Target
from pruners.task import Progress, Pruned, PruningTask

__all__ = ["Landing", "SpeedTable", "measure_table", "prune_to_speed", "read_table"]

TABLE = "latency-table.json"
_CORRECTIONS = 2

Share = Callable[[dict[str, int]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTable:
    """What a speed is decided by.

    Parameters
    ----------
    model : LatencyModel
        Predicts times.
    asked : float
        Time that is asked for, as a share of the dense network's.
    share : callable
        ``share(counts)`` measures the time of a plan as a share of the dense network's.
    """

    model: LatencyModel
    asked: float
    share: Share

    @property
    def target(self) -> Target:
        """What is asked for, as the table predicts it."""
        return Target(kept_fraction=self.asked, table=self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """How close a plan came to the speed that was asked for, all as shares of the dense network's time.

    Parameters
    ----------
    asked : float
        What was asked for.
    predicted, measured : tuple of float
        Of the plan of each round, the closest last: that one is kept.
    """

    asked: float
    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    def within(self, tolerance: float) -> bool:
        """Return whether the plan is as fast as asked for, up to the tolerance."""
        return abs(self.measured[-1] - self.asked) <= tolerance

    def __str__(self) -> str:
        rounds = f"{len(self.measured)} round{'s' if len(self.measured) > 1 else ''}"
        return (
            f"asked for {1 / self.asked:.2f}x the speed, predicted {1 / self.predicted[-1]:.2f}x, "
            f"measured {1 / self.measured[-1]:.2f}x in {rounds}"
        )


def measure_table(recipe: Recipe, model: nn.Module, example_inputs: Any, folder: Path, progress: Progress) -> None:
    """Measure a latency table for the recipe's target; `read_table` makes it what is pruned by.

    Parameters
    ----------
    recipe : Recipe
        Its target is a speed.
    model : Module
        The dense network.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Inputs of one call, each of shape (batch, ...).
    folder : Path
        Receives the dense file, its plan space and the table.
    progress : callable
        ``progress(line, share_done)``.

    Raises
    ------
    ExportError, WorkerError, BackendError
        No table can be made for this network on this backend.
    """
    outputs = recipe.prune.outputs or usual_outputs(model)
    graph = trace(model, example_inputs, policy=Policy(attention=recipe.prune.attention, outputs=outputs))
    space = write_plan_space(
        model,
        graph,
        example_inputs,
        folder,
        seed=recipe.seed,
        dynamic_batch=recipe.export.dynamic_batch,
        blocks=create(recipe.prune.method, **recipe.prune.settings).removes_blocks,
    )
    build_table(_spec(recipe, folder), space, seed=recipe.seed, progress=progress).save(folder / TABLE)


def read_table(recipe: Recipe, folder: Path, progress: Progress) -> SpeedTable:
    """Read the table that `measure_table` left in `folder`, and ask it for the recipe's target.

    Raises
    ------
    TargetError
        The dense network is as fast already.
    RecordError
        A file is missing or broken.
    """
    table, space, spec = LatencyTable.load(folder / TABLE), PlanSpace.load(folder / PLAN_SPACE), _spec(recipe, folder)
    return SpeedTable(
        model=latency_model(table),
        asked=_asked(recipe, table),
        share=lambda counts: _measured_share(spec, space, counts, recipe.seed, lambda line: progress(line, 1.0)),
    )


def prune_to_speed(
    method: PruningMethod, task: PruningTask, table: SpeedTable, *, tolerance: float
) -> tuple[Pruned, Landing]:
    """Prune, measure, and correct what is asked of the table until the measured time is the one asked for.

    A method that trains on the way prunes once: its first plan stands.

    Parameters
    ----------
    method : PruningMethod
        Decides the plan.
    task : PruningTask
        Its target is replaced.
    table : SpeedTable
        Predicts and measures.
    tolerance : float
        How far off the measured time may be, as a share of the dense network's.

    Raises
    ------
    TargetError
        The speed is out of reach.
    """
    trained: list[bool] = []
    watched = replace(task, train=_watched(task.train, trained), fit=_watched(task.fit, trained))
    rounds: list[tuple[Pruned, float, float]] = []
    share = table.asked
    for _ in range(1 + _CORRECTIONS):
        try:
            pruned = method.prune(replace(watched, target=Target(kept_fraction=share, table=table.model)))
        except TargetError:
            if not rounds:
                raise
            break  # the correction is out of reach: what is closest stands
        counts = {name: len(kept) for name, kept in pruned.plan.kept.items()} | dict.fromkeys(pruned.plan.blocks, 0)
        measured = table.share(counts)
        rounds.append((pruned, table.model.time_ns(counts) / table.model.time_ns(), measured))
        if trained or abs(measured - table.asked) <= tolerance:
            break
        share = min(share * table.asked / measured, 0.999)
    rounds.sort(key=lambda one: abs(one[2] - table.asked), reverse=True)
    landing = Landing(
        asked=table.asked,
        predicted=tuple(predicted for _, predicted, _ in rounds),
        measured=tuple(measured for _, _, measured in rounds),
    )
    return rounds[-1][0], landing


def _spec(recipe: Recipe, folder: Path) -> SubjectSpec:
    """Return the dense network in `folder` as the recipe's speed is measured."""
    bench, backend = recipe.bench, speed_backend(recipe)
    threads = recipe.prune.target.threads or bench.threads
    return SubjectSpec(
        model=folder / DENSE,
        backend=backend,
        options=compile_options(backend, precision=bench.precision, threads=threads, device=bench.device),
        batch=bench.batch if recipe.export.dynamic_batch else None,
    )


def _asked(recipe: Recipe, table: LatencyTable) -> float:
    target = recipe.prune.target
    if target.speed_up is not None:
        return 1 / target.speed_up
    assert target.latency_ms is not None
    dense = min(plan.whole_ns for plan in table.plans if plan.counts == table.whole)
    asked = 1e6 * target.latency_ms / dense
    if asked >= 1:
        raise TargetError(
            f"the dense network takes {dense / 1e6:.3g} ms on {table.key.backend}: {target.latency_ms:g} ms are met "
            "without pruning"
        )
    return asked


def _measured_share(
    spec: SubjectSpec, space: PlanSpace, counts: dict[str, int], seed: int, say: Callable[[str], None]
) -> float:
    with plan_timer(
        spec,
        space,
        purpose=f"the speed of a plan of {spec.model}",
        seed=seed,
        say=say,
        processes=session_process,
        machine=ThisMachine(),
    ) as timer:
        return timer.share(counts)


def _watched(call: Any, called: list[bool]) -> Any:
    if call is None:
        return None

    def watched(*arguments: Any, **keywords: Any) -> Any:
        called.append(True)
        return call(*arguments, **keywords)

    return watched
