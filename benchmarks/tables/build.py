"""A latency table made from measured plans: two rounds of random ones, the second with the block size of the first."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import onnx

from backends import modelfile
from backends.base import Array
from benchmarks.errors import SettingError
from benchmarks.layers.process import Processes, Ran, RunSessions, session_process
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.machine.noise_floor import fingerprint
from benchmarks.subject.inputs import InputSizes, ModelSpecs, example_inputs, index_bounds, resolve_sizes
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.anchors import anchor_times, anchors_of
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import Run, best_fit, layer_sizes
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable, TableKey

__all__ = ["PlanTimer", "build_table", "plan_timer"]

_FEWEST = 20
_FIRST_ROUND = 0.4
_GRAINS = (32, 16, 8, 8, 4, 1)
"""Counts of the first round are multiples of these: full blocks of many sizes, and blocks partly filled."""
_SESSIONS, _CALLS, _PLAIN_CALLS = 4, 4, 20
"""Of each the fastest counts: what else runs on the machine only ever adds to a time."""
_LONGEST_S = 20.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTimer:
    """Runs plans of one network, profiled and not.

    Parameters
    ----------
    narrower : Narrower
        Makes their ONNX files.
    spec : SubjectSpec
        Backend and options.
    sizes : InputSizes
        Of a call.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    anchors : Mapping of str to str
        See `benchmarks.tables.anchors.anchors_of`.
    run : RunSessions
        Runs a file.
    folder : Path
        For the files.
    machine : str
        Fingerprint.
    """

    narrower: Narrower
    spec: SubjectSpec
    sizes: InputSizes
    feeds: Mapping[str, Array]
    anchors: Mapping[str, str]
    run: RunSessions
    folder: Path
    machine: str

    def __call__(self, counts: Mapping[str, int]) -> Run:
        """Return the times of the plan whose groups keep `counts`.

        Raises
        ------
        WorkerError
            The backend refuses the file or has no layer times.
        """
        path = self.folder / "plan.onnx"
        onnx.save_model(self.narrower.model(counts), path)
        profiled = self._run(path, profile=True, sessions=_SESSIONS, calls=_CALLS)
        plain = self._run(path, profile=False, sessions=1, calls=_PLAIN_CALLS)
        sums = [anchor_times(layers, self.anchors) for layers in profiled.layers]
        names = dict.fromkeys(name for times in sums for name in times)
        return Run(
            counts=self.narrower.space.complete(counts),
            layers_ns={name: min(times.get(name, 0.0) for times in sums) for name in names},
            whole_ns=float(min(plain.calls_ns[0])),
            backend_version=plain.backend_version,
        )

    def share(self, counts: Mapping[str, int], *, pairs: int = 7) -> float:
        """Return the time of a plan as a share of the dense network's, both measured in turn, unprofiled.

        Of each pair the fastest calls are compared; of the pairs the median is taken.
        """
        paths = [self.folder / "dense.onnx", self.folder / "plan.onnx"]
        for path, kept in zip(paths, (self.narrower.space.whole, counts), strict=True):
            onnx.save_model(self.narrower.model(kept), path)
        ratios = []
        for _ in range(pairs):
            dense, plan = (
                min(self._run(path, profile=False, sessions=1, calls=_PLAIN_CALLS).calls_ns[0]) for path in paths
            )
            ratios.append(plan / dense)
        return median(ratios)

    def key(self, run: Run) -> TableKey:
        """Return what a table of such runs is good for."""
        space, options = self.narrower.space, self.spec.options
        return TableKey(
            model_sha256=space.model_sha256,
            graph=space.graph,
            backend=self.spec.backend,
            backend_version=run.backend_version,
            precision=options.precision,
            threads=options.threads,
            device=options.device,
            batch=self.sizes.batch,
            shapes=self.sizes.shapes,
            machine=self.machine,
        )

    def _run(self, path: Path, *, profile: bool, sessions: int, calls: int) -> Ran:
        return self.run(
            self.spec.backend,
            path,
            replace(self.spec.options, profile=profile),
            self.feeds,
            sessions=sessions,
            most_calls=calls,
            budget_s=_LONGEST_S,
            total_s=_LONGEST_S,
        )


@contextmanager
def plan_timer(
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    purpose: str,
    seed: int,
    say: Say,
    processes: Processes,
    machine: Machine,
) -> Iterator[PlanTimer]:
    """Take the machine and start the process that plans are run in.

    Raises
    ------
    RecordError, InputError, BackendError
        See `build_table`.
    """
    file = modelfile.read(spec.model)
    sizes = resolve_sizes(ModelSpecs(file.inputs, file.outputs), batch=spec.batch, shapes=spec.shapes)
    bounds = index_bounds(spec.model)
    feeds = example_inputs(file.inputs, batch=sizes.batch, seed=seed, shapes=sizes.shapes, bounds=bounds)
    narrower = Narrower(spec.model, space)
    with (
        machine.measuring(purpose, say) as observer,
        processes(spec.backend, threads=spec.options.threads) as run,
        tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder,
    ):
        yield PlanTimer(
            narrower=narrower,
            spec=spec,
            sizes=sizes,
            feeds=feeds,
            anchors=anchors_of(file.proto.graph),
            run=run,
            folder=Path(folder),
            machine=fingerprint(observer.environment(gpu=spec.options.device.startswith("cuda"))),
        )


def build_table(
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    plans: int = 40,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> LatencyTable:
    """Measure random plans and fit how the time of each layer follows the widths.

    Parameters
    ----------
    spec : SubjectSpec
        The dense ONNX file, the backend, its options and the inputs.
    space : PlanSpace
        What of the file follows the kept counts.
    plans : int, default=40
        Plans to measure, at least 20.
    seed : int
        Of the plans and of the inputs.
    progress : callable, optional
        ``progress(line, share_done)``.
    processes : callable
        Starts the process that runs the plans.
    machine : Machine, optional
        Where it is measured; by default this one, under its lock.

    Raises
    ------
    SettingError
        Too few plans.
    RecordError
        The plan space is of another file.
    InputError, BackendError
        The file is broken, or an input has a size that nobody gave.
    WorkerError
        The backend refuses the file, or has no layer times.
    """
    if plans < _FEWEST:
        raise SettingError(f"a table needs at least {_FEWEST} plans, got {plans}")
    runs: list[Run] = []

    def say(line: str) -> None:
        if progress is not None:
            progress(line, len(runs) / plans)

    machine = machine or ThisMachine()
    sized = layer_sizes(modelfile.read(spec.model).proto.graph, space)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begin = machine.now_s()
    rng = random.Random(seed)
    first, block = round(_FIRST_ROUND * plans), 1
    purpose = f"deploy table build {spec.model}"
    with plan_timer(spec, space, purpose=purpose, seed=seed, say=say, processes=processes, machine=machine) as timer:
        for index in range(plans):
            if index == first:
                block = best_fit(runs, sized)[0].block
                say(f"{spec.backend} computes {block} channels together")
            if index % (plans // 3) == 0:  # the dense network again and again: a slow machine shows itself
                counts = space.whole
            elif index < first:
                counts = draw(space, rng, block=_GRAINS[index % len(_GRAINS)], least=0.2, most=1.0)
            else:
                counts = draw(space, rng, block=block, least=0.35, most=1.0)
            runs.append(timer(counts))
            say(f"plan {index + 1}/{plans}: {runs[-1].whole_ns / 1e6:.2f} ms")
        key = timer.key(runs[0])
    fit, held_out, predicted = best_fit(runs, sized)
    return LatencyTable(
        key=key,
        started_utc=started,
        groups=space.groups,
        block=fit.block,
        base_ns=fit.base_ns,
        layers=fit.layers,
        held_out=held_out,
        plans=tuple(run.beside(guess) for run, guess in zip(runs, predicted, strict=True)),
        seconds=machine.now_s() - begin,
    )
