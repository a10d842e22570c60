"""A latency table made from measured plans: two rounds of random ones, the second with the block size of the first."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import sqrt
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
from benchmarks.tables.draws import draw, draw_near
from benchmarks.tables.fit import BLOCKS, LayerSizes, Run, best_fit, dense_of, layer_sizes
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable, TableKey

__all__ = ["PlanTimer", "build_table", "plan_timer", "refine_table"]

_FEWEST = 20
_FIRST_ROUND = 0.4
_GRAINS = (32, 16, 8, 8, 4, 1)
"""Counts of the first round are multiples of these: full blocks of many sizes, and blocks partly filled."""
_ABSENT = 0.25
"""Share of the residual blocks that every other plan is without, where they can be left out."""
_SESSIONS, _CALLS = 6, 2
"""Of each layer the fastest session counts: what else runs on the machine only ever adds to a time."""
_TURNS, _TURN_CALLS = 12, 2
"""Of a plan and of the dense network; the median of the ratios of their fastest calls counts."""
_LANDING_TURNS, _FEWEST_RATIOS, _LANDING_S = 20, 40, 20.0
_KNOWN = 0.0025
"""Share to which the median of the ratios is known, as a standard error, before a plan is judged by it."""
_IN_TURN_S = 1.0
_AROUND = 8
"""Plans that are measured around a decided one."""
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
    run : RunSessions
        Runs a file.
    folder : Path
        For the files.
    dense : Path
        ONNX file of the whole network, made like those of plans.
    machine : str
        Fingerprint.
    now_s : callable
        Returns seconds since some start.
    """

    narrower: Narrower
    spec: SubjectSpec
    sizes: InputSizes
    feeds: Mapping[str, Array]
    run: RunSessions
    folder: Path
    dense: Path
    machine: str
    now_s: Callable[[], float]

    def __call__(self, counts: Mapping[str, int]) -> Run:
        """Return the times of the plan whose groups keep `counts`.

        Raises
        ------
        WorkerError
            The backend refuses the file or has no layer times.
        """
        path = self._file(counts)
        anchors = anchors_of(onnx.load(path).graph)
        profiled = self._run(path, profile=True, sessions=_SESSIONS, calls=_CALLS)
        sums = [anchor_times(layers, anchors) for layers in profiled.layers]
        names = dict.fromkeys(name for times in sums for name in times)
        ratios, dense_ns = self._in_turn(path, turns=_TURNS)
        return Run(
            counts=self.narrower.space.complete(counts),
            layers_ns={name: min(times.get(name, 0.0) for times in sums) for name in names},
            share=median(ratios),
            dense_ns=dense_ns,
            backend_version=profiled.backend_version,
        )

    def share(self, counts: Mapping[str, int]) -> float:
        """Return the time of a plan as a share of the dense network's, both measured in turn, unprofiled.

        Until the median of the ratios is known to a quarter of a percent, or for `_LANDING_S` seconds.
        """
        path, begin = self._file(counts), self.now_s()
        ratios: list[float] = []
        while len(ratios) < _FEWEST_RATIOS or (_error(ratios) > _KNOWN and self.now_s() - begin < _LANDING_S):
            ratios += self._in_turn(path, turns=_LANDING_TURNS)[0]
        return median(ratios)

    def _file(self, counts: Mapping[str, int]) -> Path:
        path = self.folder / "plan.onnx"
        onnx.save_model(self.narrower.model(counts), path)
        return path

    def _in_turn(self, path: Path, *, turns: int) -> tuple[list[float], float]:
        """Return the ratios of plan and dense network, turn by turn, and the dense network's fastest call."""
        ran = self._run(path, profile=False, sessions=1, calls=_TURN_CALLS, turns=turns, beside=self.dense)
        pairs = [(min(plan), min(dense)) for plan, dense in zip(ran.calls_ns, ran.beside_ns, strict=True)]
        return [plan / dense for plan, dense in pairs], float(min(dense for _, dense in pairs))

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

    def _run(
        self, path: Path, *, profile: bool, sessions: int, calls: int, turns: int = 1, beside: Path | None = None
    ) -> Ran:
        return self.run(
            self.spec.backend,
            path,
            replace(self.spec.options, profile=profile),
            self.feeds,
            sessions=sessions,
            most_calls=calls,
            budget_s=_LONGEST_S,
            total_s=_LONGEST_S if beside is None else max(_IN_TURN_S, _IN_TURN_S * turns / _TURNS),
            turns=turns,
            beside=beside,
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
        dense = Path(folder) / "dense.onnx"
        onnx.save_model(narrower.model({}), dense)
        yield PlanTimer(
            narrower=narrower,
            spec=spec,
            sizes=sizes,
            feeds=feeds,
            run=run,
            folder=Path(folder),
            dense=dense,
            now_s=machine.now_s,
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
            absent = _ABSENT if index % 2 else 0.0
            if index % (plans // 3) == 0:  # the dense network again and again: a slow machine shows itself
                counts = space.whole
            elif index < first:
                counts = draw(space, rng, block=_GRAINS[index % len(_GRAINS)], least=0.2, most=1.0, absent=absent)
            else:
                counts = draw(space, rng, block=block, least=0.35, most=1.0, absent=absent)
            runs.append(timer(counts))
            say(f"plan {index + 1}/{plans}: {runs[-1].share:.3f} of the dense network's time")
        key = timer.key(runs[0])
    return _table(key, started, machine.now_s() - begin, space, runs, sized)


def refine_table(
    table: LatencyTable,
    timer: PlanTimer,
    counts: Mapping[str, int],
    *,
    share: float,
    seed: int = 0,
    say: Say = lambda _: None,
) -> LatencyTable:
    """Measure a decided plan by layer, and others around it, and fit the table anew with them, the block as it is.

    Parameters
    ----------
    table : LatencyTable
        Decided the plan.
    timer : PlanTimer
        Of the same network, backend, options and machine.
    counts : Mapping of str to int
        The plan.
    share : float
        What `PlanTimer.share` measured of it.
    seed : int
        Of the plans around it.
    say : callable
        Receives one short line for each plan.
    """
    rng, begin = random.Random(seed), timer.now_s()
    space, dense_ns = timer.narrower.space, table.measured_dense_ns
    near = [replace(timer(counts), share=share)]
    for index in range(_AROUND):
        near.append(timer(draw_near(space, rng, counts, block=table.block)))
        say(f"plan {index + 1}/{_AROUND} around it: {near[-1].share:.3f} of the dense network's time")
    known = [Run.of(plan, dense_ns) for plan in table.plans if not plan.near]
    before = [Run.of(plan, dense_ns) for plan in table.plans if plan.near]
    sized = layer_sizes(modelfile.read(timer.dense).proto.graph, space)
    seconds = table.seconds + timer.now_s() - begin
    return _table(
        table.key, table.started_utc, seconds, space, known, sized, near=[*before, *near], blocks=(table.block,)
    )


def _table(
    key: TableKey,
    started_utc: str,
    seconds: float,
    space: PlanSpace,
    runs: Sequence[Run],
    sized: Mapping[str, LayerSizes],
    near: Sequence[Run] = (),
    blocks: Sequence[int] = BLOCKS,
) -> LatencyTable:
    fit, held_out, predicted = best_fit(runs, sized, near=near, blocks=blocks)
    dense_ns = dense_of([*runs, *near])
    plans = [run.beside(guess, dense_ns) for run, guess in zip(runs, predicted, strict=True)]
    around = [run.beside(fit.predict_ns(run.counts), dense_ns).model_copy(update={"near": True}) for run in near]
    return LatencyTable(
        key=key,
        started_utc=started_utc,
        groups=space.groups,
        blocks={block.name: block.groups for block in space.blocks},
        block=fit.block,
        base_ns=fit.base_ns,
        layers=fit.layers,
        held_out=held_out,
        plans=(*plans, *around),
        seconds=seconds,
    )


def _error(ratios: Sequence[float]) -> float:
    """Return the standard error of the median as a share of it, for values that are normal but for outliers."""
    middle = median(ratios)
    spread = 1.4826 * median(abs(ratio - middle) for ratio in ratios)
    return 1.2533 * spread / middle / sqrt(len(ratios))
