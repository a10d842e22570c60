"""Profile an ONNX file: time it, profile its layers, measure the roofline and join, in separate processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median

from backends import modelfile
from backends.base import Array, CompileOptions, LayerInfo, Precision
from backends.modelfile import ModelFile
from benchmarks.answers.counted import counted
from benchmarks.errors import SettingError, WorkerError
from benchmarks.layers.layer_profile import LayerProfile, LayerRow, join
from benchmarks.layers.matching import match_nodes
from benchmarks.layers.onnx_nodes import ModelGraph, model_graph
from benchmarks.layers.process import Processes, Ran, RunSessions, session_process
from benchmarks.layers.roofline import Roofline, roofline_of_this_process
from benchmarks.records.measurement import Cost
from benchmarks.subject.given import call_inputs
from benchmarks.subject.inputs import InputSizes, ModelSpecs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec, identify

__all__ = ["profile_in_turn", "profile_layers", "same_nodes"]

_ROUNDS = 3
_SESSIONS, _CALLS_OF_A_SESSION = 15, 20
_MOST_CALLS = 2000
_COMPILING = 10
"""Multiple of the budget that compiling for one session after another may take."""
_SLOWED = 0.1
_IN_CACHE = 1.05

MeasureRoofline = Callable[[str, CompileOptions, Precision], Roofline]


def profile_layers(
    spec: SubjectSpec,
    *,
    feeds: Mapping[str, Array] | None = None,
    budget_s: float = 2.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    processes: Processes = session_process,
    measure_roofline: MeasureRoofline = roofline_of_this_process,
) -> LayerProfile:
    """Return where the time of a call goes, see `profile_in_turn`.

    Parameters
    ----------
    spec : SubjectSpec
        Model to profile.
    feeds : Mapping of str to ndarray, optional
        Inputs of the call; generated from `seed` by default.
    budget_s, seed, progress, processes, measure_roofline
        As in `profile_in_turn`.
    """
    (profile,) = profile_in_turn(
        (spec,),
        feeds=feeds,
        budget_s=budget_s,
        seed=seed,
        progress=progress,
        processes=processes,
        measure_roofline=measure_roofline,
    )
    return profile


def profile_in_turn(
    specs: Sequence[SubjectSpec],
    *,
    feeds: Mapping[str, Array] | None = None,
    budget_s: float = 2.0,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    processes: Processes = session_process,
    measure_roofline: MeasureRoofline = roofline_of_this_process,
) -> tuple[LayerProfile, ...]:
    """Return where the time of a call of each model goes.

    Each model has its own process, which profiles it and times it without the profiler. All processes are alive at once
    and work in turn, three times over, so that other load on the machine affects them alike.

    Parameters
    ----------
    specs : sequence of SubjectSpec
        Models to profile.
    feeds : Mapping of str to ndarray, optional
        Inputs of the calls; generated for each model from `seed` by default.
    budget_s : float, default=2.0
        Seconds of unprofiled calls of each model, and again of profiled ones, both in 15 sessions: a process that has
        just begun to compute is disturbed less. A profiled session has at most 20 calls. The lower quartile of the
        session means is reported for each layer, because other load only adds time, and each mean averages out that
        the runtimes' clocks count whole microseconds.
    seed : int, default=0
        Seed of generated inputs.
    progress : callable, optional
        Receives one short line per step.
    processes : callable
        Starts the process of a model.
    measure_roofline : callable
        Returns the roofline of a backend with its options.

    Raises
    ------
    SettingError
        The budget is not positive.
    WorkerError
        The backend cannot profile, refuses the model or the options, or its process died.
    InputError
        No inputs can be generated.
    BackendError
        A file is missing or broken.
    """
    if not budget_s > 0:
        raise SettingError(f"the duration must be positive, got {budget_s:g} s")
    say = progress or (lambda _: None)
    subjects = [_Subject.of(spec, feeds, seed) for spec in specs]
    with ExitStack() as started:
        runs = [started.enter_context(processes(spec.backend, threads=spec.options.threads)) for spec in specs]
        for index in range(_ROUNDS):
            for subject, run in zip(subjects, runs, strict=True):
                spec = subject.spec
                say(f"{spec.label or spec.model.stem}: profile its layers and time it ({index + 1}/{_ROUNDS})")
                subject.run(run, budget_s)
    return tuple(_profile(subject, say, measure_roofline) for subject in subjects)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A model with its inputs and its finished runs."""

    spec: SubjectSpec
    sizes: InputSizes
    feeds: Mapping[str, Array]
    cost: Cost
    graph: ModelGraph
    typed: Precision
    profiled: list[Ran] = field(default_factory=list)
    timed: list[Ran] = field(default_factory=list)

    @classmethod
    def of(cls, spec: SubjectSpec, feeds: Mapping[str, Array] | None, seed: int) -> _Subject:
        file = modelfile.read(spec.model)
        sizes = _sizes(file, spec)
        graph = model_graph(spec.model, sizes.shapes)
        if feeds is None:
            feeds = call_inputs(spec.model, sizes, seed=seed, given=spec.given)[0]
        cost = counted(spec.model, shapes=sizes.shapes, feeds=feeds)
        return cls(spec=spec, sizes=sizes, feeds=feeds, cost=cost, graph=graph, typed=file.precision)

    def run(self, run: RunSessions, budget_s: float) -> None:
        """Run one round with the profiler and one without."""
        spec = self.spec
        self.profiled.append(
            run(
                spec.backend,
                spec.model,
                replace(spec.options, profile=True),
                self.feeds,
                sessions=_SESSIONS // _ROUNDS,
                most_calls=_CALLS_OF_A_SESSION,
                budget_s=budget_s / _SESSIONS,
                total_s=_COMPILING * budget_s / _ROUNDS,
            )
        )
        self.timed.append(
            run(
                spec.backend,
                spec.model,
                replace(spec.options, profile=False),
                self.feeds,
                sessions=_SESSIONS // _ROUNDS,
                most_calls=_MOST_CALLS // _SESSIONS,
                budget_s=budget_s / _SESSIONS,
                total_s=budget_s,
            )
        )


def same_nodes(candidate: SubjectSpec, baseline: SubjectSpec) -> dict[str, str]:
    """Map nodes of the candidate to those of the baseline, see `benchmarks.layers.matching.match_nodes`.

    Raises
    ------
    InputError, BackendError
        See `profile_in_turn`.
    """
    graphs = [
        model_graph(spec.model, _sizes(modelfile.read(spec.model), spec).shapes) for spec in (candidate, baseline)
    ]
    return match_nodes(*graphs)


def _sizes(file: ModelFile, spec: SubjectSpec) -> InputSizes:
    shapes = spec.given.shapes(file.inputs, spec.shapes)
    return resolve_sizes(ModelSpecs.of(file), batch=spec.batch, shapes=shapes)


def _profile(subject: _Subject, say: Callable[[str], None], measure_roofline: MeasureRoofline) -> LayerProfile:
    spec = subject.spec
    calls_ns, profiled_ns = (
        [duration for ran in rounds for calls in ran.calls_ns for duration in calls]
        for rounds in (subject.timed, subject.profiled)
    )
    notes = [f"MACs not known: {reason}" for reason in subject.cost.unknown]
    roofline = None
    try:
        say(f"measure the roofline of {spec.backend}")
        roofline = measure_roofline(spec.backend, replace(spec.options, profile=False), subject.typed)
    except WorkerError as error:
        notes.append(f"the roofline could not be measured: {error}")
    latency_ns = median(calls_ns)
    profile = LayerProfile(
        subject=identify(spec, subject.sizes.batch),
        backend_version=subject.timed[0].backend_version,
        executed_precision=subject.profiled[0].executed_precision,
        latency_ns=latency_ns,
        n_calls=len(calls_ns),
        undisturbed_ns=median(min(calls) for ran in subject.timed for calls in ran.calls_ns),
        profiled_ns=median(profiled_ns),
        n_profiled=len(profiled_ns),
        roofline=roofline,
        rows=join(
            _typical([layers for ran in subject.profiled for layers in ran.layers]),
            subject.cost,
            subject.graph,
            batch=subject.sizes.batch,
            latency_ns=latency_ns,
            roofline=roofline,
            uncounted=subject.cost.uncounted,
        ),
        uncounted=subject.cost.uncounted,
    )
    return profile.model_copy(update={"notes": (*notes, *_notes(profile))})


def _typical(sessions: Sequence[tuple[LayerInfo, ...]]) -> tuple[LayerInfo, ...]:
    """Give each layer the lower quartile of its times over the sessions with the same layers as the first."""
    first = sessions[0]
    shape = [(layer.kind, layer.nodes) for layer in first]
    alike = [layers for layers in sessions if [(layer.kind, layer.nodes) for layer in layers] == shape]
    typical = []
    for index, layer in enumerate(first):
        times = [time_ns for layers in alike if (time_ns := layers[index].time_ns) is not None]
        typical.append(replace(layer, time_ns=sorted(times)[len(times) // 4] if times else None))
    return tuple(typical)


def _notes(profile: LayerProfile) -> list[str]:
    """Return notes that a reader of the rows needs."""
    notes = []
    if profile.profiling_cost > _SLOWED:
        notes.append(
            f"profiling made the calls {100 * profile.profiling_cost:.0f} % longer: short layers look too long, "
            f"and the gaps too short"
        )
    if any(row.kind == "gaps" and (row.time_ns or 0) < 0 for row in profile.rows):
        notes.append("the gaps are negative: the profiled layers took longer together than an unprofiled call")
    if any(_beats(row) for row in profile.rows):
        notes.append(
            "a layer over 100 % of the roofline has its data in a cache (the roofline is that of main memory), or "
            "multiplies less than its MACs say"
        )
    if profile.roofline is not None and profile.roofline.peak_flops is None:
        notes.append(f"no matrix product was measured in {profile.subject.precision}: no roofline for layers with MACs")
    return notes


def _beats(row: LayerRow) -> bool:
    return row.roofline_share is not None and row.roofline_share > _IN_CACHE
