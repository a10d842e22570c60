"""Latency tables for the speed targets of a recipe: measured, or reused from earlier measurements."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn

from benchmarks.layers.process import session_process
from benchmarks.machine.machine import ThisMachine
from benchmarks.subject.backend_options import compile_options
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import refine_table, table_of
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import PlanTimer, plan_timer
from deploy.exporting.capture import one_batch
from deploy.files.atomic import output_errors
from deploy.recipe import Recipe, TargetSpec
from deploy.run.run_stages import speed_backend
from deploy.run.speed.profiled import require_layer_times
from deploy.run.speed.rounds import Counts, SpeedTable
from deploy.run.stages import stage_key
from deploy.tables.latency_model import latency_model
from deploy.tables.plan_space import DENSE, PLAN_SPACE, write_plan_space
from pruners.channels.outputs import usual_outputs
from pruners.errors import TargetError
from pruners.graph import trace
from pruners.modules.calls import call_of
from pruners.policy import Policy
from pruners.registry import create
from pruners.task import Progress

__all__ = ["measure_tables", "read_tables", "require_speeds", "speed_table"]

_PROCESSES = 3
"""Number of processes that measure a plan: calls of one process are not independent samples."""


def require_speeds(recipe: Recipe) -> None:
    """Check that each speed target's backend can time layers, and that no two share backend and threads.

    Raises
    ------
    TargetError
        A backend has no profiler by layer, or two targets contradict each other.
    """
    asked: dict[tuple[str, int], TargetSpec] = {}
    for target in recipe.prune.targets:
        require_layer_times(speed_backend(recipe, target))
        options = _spec(recipe, target, Path(DENSE)).options
        place = (speed_backend(recipe, target), options.threads)
        if place in asked:
            raise TargetError(
                f"two targets contradict each other: {_words(asked[place])} and {_words(target)} on {place[0]}, "
                f"threads {place[1]}; keep one"
            )
        asked[place] = target


def measure_tables(
    recipe: Recipe, model: nn.Module, example_inputs: Any, folder: Path, progress: Progress, say: Callable[[str], None]
) -> None:
    """Measure a latency table for each of the recipe's targets; `read_tables` turns each into a `SpeedTable`.

    A table measured earlier on this machine for the same file, backend and options is reused.

    Parameters
    ----------
    recipe : Recipe
        Its targets are speeds.
    model : Module
        The dense network.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Inputs of one call, each of shape (batch, ...); if the export bakes the batch in, ``bench.batch`` of them are
        taken, the last one repeated if there are fewer.
    folder : Path
        Receives the dense file, its plan space and the tables.
    progress : callable
        ``progress(line, share_done)``.
    say : callable
        Receives a line per table that tells where it comes from.

    Raises
    ------
    ExportError, WorkerError, BackendError
        No table can be made for this network on this backend.
    """
    outputs = recipe.prune.outputs or usual_outputs(model)
    call = call_of(model, example_inputs)
    if not recipe.export.dynamic_batch:
        call = one_batch(call, recipe.bench.batch)
    graph = trace(model, call, policy=Policy(attention=recipe.prune.attention, outputs=outputs))
    space = write_plan_space(
        model,
        graph,
        call,
        folder,
        seed=recipe.seed,
        opset=recipe.export.opset,
        dynamic_batch=recipe.export.dynamic_batch,
        blocks=create(recipe.prune.method, **recipe.prune.settings).removes_blocks,
        say=say,
    )
    for index, target in enumerate(recipe.prune.targets):
        spec = _spec(recipe, target, folder / DENSE)
        table_of(spec, space, seed=recipe.seed, progress=progress, say=say).save(folder / _file(index))


def read_tables(
    recipe: Recipe, folder: Path, say: Callable[[str], None], *, learned: Path | None = None
) -> tuple[SpeedTable, ...]:
    """Read the tables that `measure_tables` left in `folder`, one for each of the recipe's targets.

    Parameters
    ----------
    recipe : Recipe
        Its targets are speeds.
    folder : Path
        Folder of the tables.
    say : callable
        Receives one short line per step.
    learned : Path, optional
        Folder for what they learn before the first pruning.

    Raises
    ------
    TargetError
        The dense network is already as fast.
    RecordError
        A file is missing or broken.
    """
    space = PlanSpace.load(folder / PLAN_SPACE)
    tables = []
    for index, target in enumerate(recipe.prune.targets):
        table, spec = LatencyTable.load(folder / _file(index)), _spec(recipe, target, folder / DENSE)
        asked, tolerance = _asked(target, table), target.tolerance
        tables.append(
            speed_table(
                table,
                spec,
                space,
                asked=asked,
                tolerance=tolerance,
                seed=recipe.seed,
                say=say,
                kept=None if learned is None else learned / _file(index),
            )
        )
    return tuple(tables)


def speed_table(
    table: LatencyTable,
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    asked: float,
    tolerance: float,
    seed: int,
    say: Callable[[str], None],
    kept: Path | None = None,
) -> SpeedTable:
    """Return a latency table together with ways to measure plans of its network and to refine it.

    Parameters
    ----------
    table, spec, space
        As for `benchmarks.tables.build.table_of`.
    asked, tolerance : float
        As for `SpeedTable`.
    seed : int
        Seed of inputs, and of the plans measured around another one.
    say : callable
        Receives one short line per step.
    kept : Path, optional
        Path of a file next to which tables refined without a measured share are kept, for this table and speed.
    """

    def timing() -> AbstractContextManager[PlanTimer]:
        return plan_timer(
            spec,
            space,
            purpose=f"the speed of a plan of {spec.model}",
            seed=seed,
            say=say,
            processes=session_process,
            machine=ThisMachine(),
        )

    def share_of(counts: Counts) -> float:
        shares = []
        for index in range(_PROCESSES):
            say(f"time the plan beside the dense network, process {index + 1} of {_PROCESSES}")
            with timing() as timer:
                shares.append(timer.share(counts))
        return median(shares)

    def refined(counts: Counts, share: float | None) -> LatencyTable:
        with timing() as timer:
            measured = timer.share(counts) if share is None else share
            return refine_table(table, timer, counts, share=measured, seed=seed, say=say)

    def refine(counts: Counts, share: float | None) -> SpeedTable:
        if kept is None or share is not None:
            better = refined(counts, share)
        else:
            better = _learned(kept, table, asked, lambda: refined(counts, None))
        return speed_table(better, spec, space, asked=asked, tolerance=tolerance, seed=seed, say=say, kept=kept)

    return SpeedTable(
        model=latency_model(table),
        dense_ns=table.measured_dense_ns,
        asked=asked,
        tolerance=tolerance,
        threads=spec.options.threads,
        share=share_of,
        refine=refine,
    )


def _learned(kept: Path, table: LatencyTable, asked: float, refined: Callable[[], LatencyTable]) -> LatencyTable:
    """Return a table refined near a speed as kept next to `kept`, or refine and keep it.

    The plan that it was refined around does not count: a solver that ran out of time may find another one next time.
    """
    file = kept.with_stem(f"{kept.stem}-near-{stage_key(table.model_dump(mode='json'), asked)}")
    if not file.is_file():
        learned = refined()
        if not file.is_file():  # if it is, a process that shares this training was faster, and all go on with its table
            with output_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            learned.save(file)
    return LatencyTable.load(file)


def _file(index: int) -> str:
    return f"latency-table-{index + 1}.json" if index else "latency-table.json"


def _spec(recipe: Recipe, target: TargetSpec, dense: Path) -> SubjectSpec:
    """Return the dense network as the subject of a speed measurement."""
    bench, backend = recipe.bench, speed_backend(recipe, target)
    threads = target.threads or bench.threads
    return SubjectSpec(
        model=dense,
        backend=backend,
        options=compile_options(backend, precision=bench.precision, threads=threads, device=bench.device),
        batch=bench.batch if recipe.export.dynamic_batch else None,
    )


def _words(target: TargetSpec) -> str:
    return f"speed_up {target.speed_up:g}" if target.speed_up is not None else f"latency_ms {target.latency_ms:g}"


def _asked(target: TargetSpec, table: LatencyTable) -> float:
    """Return the requested time as a share of the dense network's.

    Raises
    ------
    TargetError
        The dense network is already as fast.
    """
    if target.speed_up is not None:
        return 1 / target.speed_up
    assert target.latency_ms is not None
    # The fastest call of all may be a lucky one, and a share of it less than what most calls take.
    dense = median(plan.dense_ns for plan in table.plans)
    asked = 1e6 * target.latency_ms / dense
    if asked >= 1:
        raise TargetError(
            f"the dense network takes {dense / 1e6:.3g} ms on {table.key.backend}: {target.latency_ms:g} ms are met "
            "without pruning"
        )
    return asked
