"""Check a latency table against plans it has not seen."""

from __future__ import annotations

import random
from collections.abc import Callable

from backends import modelfile
from benchmarks.layers.process import Processes, session_process
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.best_fit import quality
from benchmarks.tables.draws import ABSENT, draw
from benchmarks.tables.fit import layer_sizes
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import HeldOut, LatencyTable, MeasuredPlan
from benchmarks.tables.timer import plan_timer

__all__ = ["check_table"]


def check_table(
    table: LatencyTable,
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    where: str,
    plans: int = 10,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> tuple[HeldOut, tuple[MeasuredPlan, ...]]:
    """Measure new plans and compare them with the predictions of the table.

    Parameters
    ----------
    table : LatencyTable
        Refused on another machine, for another file or other options.
    spec : SubjectSpec
        The dense ONNX file, the backend and its options.
    space : PlanSpace
        Which parts of the file depend on the kept counts.
    where : str
        What the table was read from, for the message.
    plans : int, default=10
        Plans to measure.
    seed : int, default=1
        Seed of the plans.
    progress : callable, optional
        Receives one short line per plan.
    processes, machine
        As in `benchmarks.tables.build.build_table`.

    Raises
    ------
    NotComparableError
        The table was measured for something else.
    RecordError, InputError, BackendError, WorkerError
        As in `benchmarks.tables.build.build_table`.
    """
    say = progress or (lambda _: None)
    rng = random.Random(seed)
    sized = layer_sizes(modelfile.read(spec.model).proto.graph, space)
    measured = []
    with plan_timer(
        spec,
        space,
        purpose=f"deploy table check {where}",
        seed=seed,
        say=say,
        processes=processes,
        machine=machine or ThisMachine(),
    ) as timer:
        for index in range(plans):
            absent = ABSENT if index % 2 and table.blocks else 0.0
            counts = draw(space, sized, rng, block=table.block, least=0.35, most=1.0, absent=absent)
            run = timer(counts)
            if not index:
                table.require(timer.key(run), where)
            predicted = table.predict_ns(counts)
            share = predicted / table.measured_dense_ns
            measured.append(run.beside(predicted, table.measured_dense_ns))
            say(f"plan {index + 1}/{plans}: {run.share:.3f} of the dense network's time, predicted {share:.3f}")
    return quality([plan.predicted_ns for plan in measured], [plan.whole_ns for plan in measured]), tuple(measured)
