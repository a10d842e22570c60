"""Entry point of `pruners.prune` for speed targets: measures or finds the table, measures and corrects the plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.subject.backend_options import compile_options, require_backends
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import table_of
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.bundles.pruning import SpeedLanding
from deploy.errors import as_call_errors
from deploy.run.loss_check import require_channels
from deploy.run.speed.profiled import require_layer_times
from deploy.run.speed.pruning import prune_to_speed
from deploy.run.speed_tables import speed_table
from deploy.run.stages import stage_key
from deploy.tables.plan_space import DENSE, write_plan_space
from pruners.base import PruningMethod
from pruners.errors import PruneError, TargetError
from pruners.graph import trace
from pruners.modules.plain import plain
from pruners.removals import RemovalFolder
from pruners.surgery import policy_of
from pruners.target import Constraints, Target
from pruners.task import Pruned, PruningTask

__all__ = ["prune_to"]

_UNDECIDED = Target(of="macs", kept_fraction=0.5)
"""Placeholder target, replaced once there is a table."""


def prune_to(
    method: PruningMethod,
    task: Mapping[str, Any],
    *,
    speed_up: float,
    constraints: Constraints | None = None,
    on: str = "ort",
    threads: int | None = None,
    device: str | None = None,
    precision: str = "fp32",
    batch: int | None = None,
    dynamic_batch: bool = True,
    tolerance: float = 0.01,
) -> tuple[Pruned, SpeedLanding]:
    """Prune a network to a speed that is measured on this machine.

    Parameters
    ----------
    method : PruningMethod
        Decides the plan.
    task : Mapping
        Arguments of `pruners.task.PruningTask`, without target and constraints.
    speed_up, constraints, on, threads, device, precision, batch, dynamic_batch, tolerance
        As for `pruners.registry.prune`.

    Returns
    -------
    (Pruned, SpeedLanding)
        The result and landing of the closest measured plan.

    Raises
    ------
    PruneError
        The method removes no channels or lacks data, or the speed is out of reach.
    DeployError
        The speed cannot be measured there.
    """
    if not isinstance(on, str):
        raise TargetError(f"on is the name of one backend, got {on!r}")
    if threads is not None and threads < 1:
        raise TargetError(f"threads is at least 1, got {threads}")
    if not 1 < speed_up < inf:
        raise TargetError(f"speed_up is how many times faster, more than 1; got {speed_up}")
    if not 0 < tolerance < 1:
        raise TargetError(f"tolerance is a share of the dense network's time, in (0, 1); got {tolerance}")
    require_channels(method)
    wanted = PruningTask(**task, target=_UNDECIDED, constraints=constraints or Constraints())
    method.require_data(wanted)
    wanted = replace(wanted, model=plain(wanted.model))
    with as_call_errors(PruneError), tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder:
        require_backends([on], device)
        require_layer_times(on)
        options = compile_options(on, precision=precision, threads=threads, device=device)
        spec = SubjectSpec(model=Path(folder) / DENSE, backend=on, options=options, batch=batch)
        measured = _table(spec, wanted, dynamic_batch, method.removes_blocks)
        if constraints is None:
            wanted = replace(wanted, constraints=Constraints(multiple_of=measured.table.block))
        kept = None
        if isinstance(wanted.keeper, RemovalFolder):
            # The plans that a table is refined around depend on these.
            key = stage_key(repr(wanted.constraints), method.removes_blocks)
            kept = wanted.keeper.folder / f"latency-table-{key}.json"
        table = speed_table(
            measured.table,
            spec,
            measured.space,
            asked=1 / speed_up,
            tolerance=tolerance,
            seed=wanted.seed,
            say=measured.say,
            kept=kept,
        )
        pruned, (landing,) = prune_to_speed(method, wanted, [table])
    return pruned, landing


class _Measured(NamedTuple):
    """A latency table, the plan space that it was measured in, and what receives a line per step."""

    table: LatencyTable
    space: PlanSpace
    say: Callable[[str], None]


def _table(spec: SubjectSpec, task: PruningTask, dynamic_batch: bool, blocks: bool) -> _Measured:
    """Export the network to the path in `spec`, and measure its latency table or find a kept one."""
    done = 0.0

    def progress(line: str, share: float) -> None:
        nonlocal done
        done = share
        say(line)

    def say(line: str) -> None:
        if task.progress is not None:
            task.progress(line, done)

    graph = trace(task.model, task.example_inputs, policy=policy_of(task))
    space = write_plan_space(
        task.model,
        graph,
        task.example_inputs,
        spec.model.parent,
        seed=task.seed,
        dynamic_batch=dynamic_batch,
        blocks=blocks,
        say=say,
    )
    return _Measured(table_of(spec, space, seed=task.seed, progress=progress, say=say), space, say)
