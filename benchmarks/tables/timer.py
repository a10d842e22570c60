"""`PlanTimer`: measures plans of a network, layer by layer and in turn with the dense network."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
import onnx

from backends import modelfile
from backends.base import Array
from benchmarks.layers.process import Processes, Ran, RunSessions
from benchmarks.machine.machine import Machine
from benchmarks.machine.noise_floor import fingerprint
from benchmarks.subject.given import call_inputs
from benchmarks.subject.inputs import InputSizes, ModelSpecs, resolve_sizes
from benchmarks.subject.model_writer import write_model
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.anchors import anchor_times, anchors_of
from benchmarks.tables.fit import Run
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import TableKey

__all__ = ["PlanTimer", "Say", "key_of", "plan_timer", "sizes_of"]

_SESSIONS, _CALLS, _SESSIONS_S = 6, 2, 0.3
"""The fastest session counts for each layer: other load on the machine only ever adds time. A network that takes that
long to compile gets one session, which is enough for its long layers."""
_TURNS, _TURNS_S = 12, 0.3
"""Turns of a plan and of the dense network."""
_TURN_CALLS, _TURN_S = 50, 0.03
"""Calls of a turn. The first ones after a switch find caches and threads as the other network left them."""
_LANDING_TURNS, _LANDING_TURNS_S, _LANDING_S = 4, 0.4, 10.0
"""A session is off by a percent where layers are small, however long it runs, so many short ones judge a plan."""
_PARTS, _KNOWN = 4, 0.003
"""Parts of the sessions whose shares tell the error of the whole, and the relative standard error to reach."""
_LONGEST_S = 20.0


Say = Callable[[str], None]


class _Turns(NamedTuple):
    """Fastest call of each turn, in nanoseconds: of a plan, and of the dense network in turn with it."""

    plan_ns: tuple[int, ...]
    dense_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTimer:
    """Runs plans of one network, profiled and unprofiled.

    Parameters
    ----------
    narrower : Narrower
        Makes their ONNX files.
    spec : SubjectSpec
        Backend and options.
    sizes : InputSizes
        Input sizes of a call.
    feeds : Mapping of str to ndarray
        Inputs of a call.
    run : RunSessions
        Runs a file.
    folder : Path
        Folder of the files.
    dense : Path
        ONNX file of the dense network, made like those of plans.
    machine : str
        Fingerprint of the machine.
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
        """Return the times of the plan with kept counts `counts`.

        Raises
        ------
        WorkerError
            The backend refuses the file or reports no layer times.
        """
        model = self.narrower.model(counts)
        path, anchors = self._file(model), anchors_of(model.graph)
        profiled = self._run(path, profile=True, sessions=_SESSIONS, calls=_CALLS, total_s=_SESSIONS_S)
        sums = [anchor_times(layers, anchors) for layers in profiled.layers]
        names = dict.fromkeys(name for times in sums for name in times)
        turns = self._in_turn(path, turns=_TURNS, total_s=_TURNS_S)
        return Run(
            counts=self.narrower.space.complete(counts),
            layers_ns={name: min(times.get(name, 0.0) for times in sums) for name in names},
            share=_share([turns]),
            dense_ns=float(min(turns.dense_ns)),
            backend_version=profiled.backend_version,
        )

    def share(self, counts: Mapping[str, int]) -> float:
        """Return the time of a plan as a share of the dense network's, both measured in turn, unprofiled.

        Measures in several sessions until the share is known to 0.3 %, or for ten seconds.
        """
        return self._share_of(self._file(self.narrower.model(counts)))

    def share_of(self, path: Path) -> float:
        """Return the time share of another ONNX file with the same inputs, measured as in `share`.

        It is written as the dense one is: where the weights are may change the time.
        """
        return self._share_of(self._file(onnx.load(path)))

    def _share_of(self, path: Path) -> float:
        begin = self.now_s()
        sessions: list[_Turns] = []
        while not sessions or (_error(sessions) > _KNOWN and self.now_s() - begin < _LANDING_S):
            sessions.append(self._in_turn(path, turns=_LANDING_TURNS, total_s=_LANDING_TURNS_S))
        return _share(sessions)

    def _file(self, model: onnx.ModelProto) -> Path:
        return _written(model, self.folder / "plan.onnx")

    def _in_turn(self, path: Path, *, turns: int, total_s: float) -> _Turns:
        """Run a session in which the file and the dense network take turns."""
        ran = self._run(
            path,
            profile=False,
            sessions=1,
            calls=_TURN_CALLS,
            budget_s=_TURN_S,
            total_s=total_s,
            turns=turns,
            beside=self.dense,
        )
        return _Turns(tuple(map(min, ran.calls_ns)), tuple(map(min, ran.beside_ns)))

    def key(self, run: Run) -> TableKey:
        """Return the key of a table made of such runs."""
        space = self.narrower.space
        return key_of(self.spec, space.model_sha256, space.graph, self.sizes, self.machine, run.backend_version)

    def _run(
        self,
        path: Path,
        *,
        profile: bool,
        sessions: int,
        calls: int,
        total_s: float,
        budget_s: float = _LONGEST_S,
        turns: int = 1,
        beside: Path | None = None,
    ) -> Ran:
        return self.run(
            self.spec.backend,
            path,
            replace(self.spec.options, profile=profile),
            self.feeds,
            sessions=sessions,
            most_calls=calls,
            budget_s=budget_s,
            total_s=total_s,
            turns=turns,
            beside=beside,
        )


def key_of(
    spec: SubjectSpec, model_sha256: str, graph: str, sizes: InputSizes, machine: str, backend_version: str | None
) -> TableKey:
    """Return the key of a table of these times; `machine` is the fingerprint of the machine."""
    return TableKey(
        model_sha256=model_sha256,
        graph=graph,
        backend=spec.backend,
        backend_version=backend_version,
        precision=spec.options.precision,
        threads=spec.options.threads,
        device=spec.options.device,
        batch=sizes.batch,
        shapes=sizes.shapes,
        machine=machine,
    )


def sizes_of(spec: SubjectSpec) -> InputSizes:
    """Return the sizes of a call's inputs, those given by the user included."""
    file = modelfile.read(spec.model)
    shapes = spec.given.shapes(file.inputs, spec.shapes)
    return resolve_sizes(ModelSpecs.of(file), batch=spec.batch, shapes=shapes)


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
    """Lock the machine and start the process that runs the plans.

    Raises
    ------
    RecordError, InputError, BackendError
        See `build_table`.
    """
    sizes = sizes_of(spec)
    feeds = call_inputs(spec.model, sizes, seed=seed, given=spec.given)[0]
    narrower = Narrower(spec.model, space)
    with (
        machine.measuring(purpose, say) as observer,
        processes(spec.backend, threads=spec.options.threads) as run,
        tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder,
    ):
        dense = _written(narrower.model({}), Path(folder) / "dense.onnx")
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


def _written(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model with its weights in a second file: three times as fast as in one, and runtimes can map it."""
    write_model(model, path, apart=True)
    return path


def _share(sessions: Sequence[_Turns]) -> float:
    """Return the time of the plan as a share of the dense network's: the ratio of the lower quartiles of their turns.

    Other load on the machine only ever adds time, and more to one network than to the other. The faster turns are those
    that it disturbs least.
    """
    plan = [ns for turns in sessions for ns in turns.plan_ns]
    dense = [ns for turns in sessions for ns in turns.dense_ns]
    return float(np.quantile(plan, 0.25) / np.quantile(dense, 0.25))


def _error(sessions: Sequence[_Turns]) -> float:
    """Return the relative standard error of the share, from parts of the sessions; infinite if there are too few."""
    if len(sessions) < _PARTS:
        return inf
    parts = [_share(sessions[part::_PARTS]) for part in range(_PARTS)]
    return stdev(parts) / mean(parts) / sqrt(_PARTS)
