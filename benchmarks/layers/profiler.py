"""From an ONNX file to its profile: time it, profile it, measure the roofline, join. Each in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from backends import modelfile
from backends.base import Array, CompileOptions, LayerInfo, Precision
from benchmarks.errors import SettingError, WorkerError
from benchmarks.layers.layer_profile import LayerProfile, LayerRow, join
from benchmarks.layers.onnx_nodes import model_graph
from benchmarks.layers.process import RunSessions, run_in_process
from benchmarks.layers.roofline import Roofline, roofline_of_this_process
from benchmarks.subject.cost import cost
from benchmarks.subject.inputs import ModelSpecs, example_inputs, index_bounds, resolve_sizes
from benchmarks.subject.subject import SubjectSpec, identify

__all__ = ["profile_layers"]

_SESSIONS, _CALLS_OF_A_SESSION = 15, 20
_MOST_CALLS = 2000
_COMPILING = 10
"""So many times the budget may be spent on compiling for one session after the other."""
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
    run: RunSessions = run_in_process,
    measure_roofline: MeasureRoofline = roofline_of_this_process,
) -> LayerProfile:
    """Return where the time of a call goes.

    Parameters
    ----------
    spec : SubjectSpec
        What is profiled.
    feeds : Mapping of str to ndarray, optional
        Inputs of the call; left out, they are made up from `seed`.
    budget_s : float, default=2.0
        Seconds of unprofiled calls, and again of profiled ones. The latter are made in 15 sessions of at most 20
        calls: of each layer the median of their means is reported, so that what else runs on the machine does not show,
        and each mean averages out that the runtimes' clocks count whole microseconds.
    seed : int, default=0
        Of made-up inputs.
    progress : callable, optional
        Receives one short line for each step.
    run : callable
        How a model is run in a process of its own.
    measure_roofline : callable
        Returns the roofline of a backend with its options.

    Raises
    ------
    SettingError
        The budget is not positive.
    WorkerError
        The backend cannot profile, refuses the model or the options, or its process died.
    CostError
        The MACs of the model cannot be counted.
    InputError
        No inputs can be made.
    BackendError
        The file is missing or broken.
    """
    if not budget_s > 0:
        raise SettingError(f"the duration must be positive, got {budget_s:g} s")
    say = progress or (lambda _: None)
    file = modelfile.read(spec.model)
    sizes = resolve_sizes(ModelSpecs(file.inputs, file.outputs), batch=spec.batch, shapes=spec.shapes)
    counted = cost(spec.model, shapes=spec.shapes)
    graph = model_graph(spec.model, sizes.shapes)
    if feeds is None:
        bounds = index_bounds(spec.model)
        feeds = example_inputs(file.inputs, batch=sizes.batch, seed=seed, shapes=sizes.shapes, bounds=bounds)
    plain = replace(spec.options, profile=False)
    label = spec.label or spec.model.stem
    say(f"{label}: profile its layers")
    profiled = run(
        spec.backend,
        spec.model,
        replace(plain, profile=True),
        feeds,
        sessions=_SESSIONS,
        most_calls=_CALLS_OF_A_SESSION,
        budget_s=budget_s / _SESSIONS,
        total_s=_COMPILING * budget_s,
    )
    say(f"{label}: time it without the profiler")
    timed = run(
        spec.backend,
        spec.model,
        plain,
        feeds,
        sessions=1,
        most_calls=_MOST_CALLS,
        budget_s=budget_s,
        total_s=budget_s,
    )
    latency_ns = median(timed.calls_ns[0])
    notes: list[str] = []
    roofline = None
    try:
        say(f"measure the roofline of {spec.backend}")
        roofline = measure_roofline(spec.backend, plain, file.precision)
    except WorkerError as error:
        notes.append(f"the roofline could not be measured: {error}")
    rows = join(_typical(profiled.layers), counted, graph, batch=sizes.batch, latency_ns=latency_ns, roofline=roofline)
    profiled_ns = [duration for calls in profiled.calls_ns for duration in calls]
    profile = LayerProfile(
        subject=identify(spec, sizes.batch),
        backend_version=timed.backend_version,
        executed_precision=profiled.executed_precision,
        latency_ns=latency_ns,
        n_calls=len(timed.calls_ns[0]),
        profiled_ns=median(profiled_ns),
        n_profiled=len(profiled_ns),
        roofline=roofline,
        rows=rows,
    )
    return profile.model_copy(update={"notes": (*notes, *_notes(profile))})


def _typical(sessions: Sequence[tuple[LayerInfo, ...]]) -> tuple[LayerInfo, ...]:
    """Give each layer the median of its times in the sessions that compiled the same layers as the first."""
    first = sessions[0]
    shape = [(layer.kind, layer.nodes) for layer in first]
    alike = [layers for layers in sessions if [(layer.kind, layer.nodes) for layer in layers] == shape]
    medians = []
    for index, layer in enumerate(first):
        times = [time_ns for layers in alike if (time_ns := layers[index].time_ns) is not None]
        medians.append(replace(layer, time_ns=round(median(times)) if times else None))
    return tuple(medians)


def _notes(profile: LayerProfile) -> list[str]:
    """Return what keeps the rows from being read as they stand."""
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
