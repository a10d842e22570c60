"""A network of these studies, prepared for measuring at any widths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from backends.base import CompileOptions
from benchmarks.layers.process import session_process
from benchmarks.machine.machine import ThisMachine
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import table_of
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import PlanTimer, plan_timer
from deploy.run.speed.rounds import SpeedTable
from deploy.run.speed_tables import speed_table
from deploy.studies.coverage.models import fresh
from deploy.studies.coverage.rows import ListedNetwork
from deploy.tables.plan_space import DENSE, write_plan_space
from pruners.graph import Graph, trace

__all__ = ["Prepared", "prepared"]

_SEED = 0
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A dense network, its file and plan space, on one backend.

    Parameters
    ----------
    network : Module
        The network, with random weights and in evaluation mode.
    inputs : tuple of Tensor
        Inputs of a call, each of shape (batch, ...).
    free_batch : bool
        Whether its file has a free batch dimension.
    graph : Graph
        Its trace.
    spec : SubjectSpec
        Its ONNX file, the backend and the options.
    space : PlanSpace
        What in the file depends on the widths.
    table : LatencyTable
        Its latency table, new or from an earlier measurement.
    """

    network: nn.Module
    inputs: tuple[Tensor, ...]
    free_batch: bool
    graph: Graph
    spec: SubjectSpec
    space: PlanSpace
    table: LatencyTable

    def asked(self, share: float, say: Callable[[str], None]) -> SpeedTable:
        """Return the table that decides the pruning to a share of the dense network's time."""
        return speed_table(self.table, self.spec, self.space, asked=share, tolerance=_TOLERANCE, seed=_SEED, say=say)

    @contextmanager
    def timer(self, say: Callable[[str], None]) -> Iterator[PlanTimer]:
        """Start a process that measures plans."""
        with plan_timer(
            self.spec,
            self.space,
            purpose=f"the speed of plans of {self.spec.model}",
            seed=_SEED,
            say=say,
            processes=session_process,
            machine=ThisMachine(),
        ) as timer:
            yield timer


def prepared(
    listed: ListedNetwork, folder: Path, *, backend: str, threads: int, say: Callable[[str], None]
) -> Prepared:
    """Build, trace and export a network, and find its plan space and its latency table.

    Parameters
    ----------
    listed : ListedNetwork
        Library, name and the shape of its inputs; a batch of one is baked in, any other is left free.
    folder : Path
        Folder for the ONNX file.
    backend : str
        The measured backend.
    threads : int
        Threads of one call.
    say : callable
        Called with one short line for each step.

    Raises
    ------
    PruneError, DeployError, BackendError, BenchmarkError
        A step fails.
    """
    network = fresh(listed, seed=_SEED)
    for module in network.modules():
        if hasattr(module, "export"):  # makes a detection head of ultralytics return one tensor
            vars(module)["export"] = True
    torch.manual_seed(_SEED)
    inputs = tuple(torch.randn(shape) for shape in listed.shapes)
    free = listed.shapes[0][0] > 1
    say("trace it")
    graph = trace(network, inputs)
    say("export it")
    space = write_plan_space(network, graph, inputs, folder, seed=_SEED, dynamic_batch=free, say=say)
    spec = SubjectSpec(model=folder / DENSE, backend=backend, options=CompileOptions(threads=threads))
    table = table_of(spec, space, seed=_SEED, progress=lambda line, _: say(line), say=say)
    return Prepared(network=network, inputs=inputs, free_batch=free, graph=graph, spec=spec, space=space, table=table)
