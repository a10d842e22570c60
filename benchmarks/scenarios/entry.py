"""Entry points of a scenario: `run_scenario` in the measured process, `question_of` and `parse` in its parent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from backends.base import Array
from benchmarks.errors import SettingError
from benchmarks.scenarios.definitions import SCENARIOS, Device, MultiStream, Offline, ScenarioSettings, Server
from benchmarks.scenarios.multi import run_multi_stream
from benchmarks.scenarios.offline import run_offline
from benchmarks.scenarios.records import (
    DeviceResult,
    MultiStreamResult,
    OfflineResult,
    ScenarioResult,
    ServerProbe,
    ServerResult,
)
from benchmarks.scenarios.server import find_server_rate
from benchmarks.scenarios.waiting import Clock, Sleep

__all__ = ["parse", "question_of", "run_on_device", "run_scenario", "settings_of"]

_FEWEST_WARM = 20


def question_of(settings: ScenarioSettings) -> dict[str, Any]:
    """Return settings as a JSON-serialisable dictionary, which `settings_of` reads."""
    return {"scenario": settings.scenario, "settings": asdict(settings)}


def settings_of(question: Mapping[str, Any]) -> ScenarioSettings:
    """Read the settings of a question.

    Raises
    ------
    SettingError
        There is no such scenario, or the settings are invalid.
    """
    name = question.get("scenario")
    if name not in SCENARIOS:
        raise SettingError(f"scenario {name!r} is not one of {', '.join(SCENARIOS)}")
    try:
        return SCENARIOS[name](**question.get("settings", {}))
    except TypeError as error:
        raise SettingError(f"scenario {name!r}: {error}") from error


def run_scenario(
    question: Mapping[str, Any],
    calls: Sequence[Callable[[], None]],
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Run a load scenario on warm calls, in the measured process.

    Parameters
    ----------
    question : Mapping
        See `question_of`.
    calls : sequence of callable
        One bound call per stream of the settings. They run concurrently, each on one thread at a time.
    clock, sleep : callable
        See `benchmarks.scenarios.waiting`.

    Returns
    -------
    answer : dict
        JSON-serialisable.
    arrays : dict of str to ndarray
        Raw samples, int64 nanoseconds. `parse` turns both into a record.

    Raises
    ------
    SettingError
        There is no such scenario, the settings are invalid, or there is not one call per stream.
    Exception
        Any exception raised by a call.
    """
    settings = settings_of(question)
    if isinstance(settings, Device):
        raise SettingError("scenario 'device' is timed by the device, not by calls: see `run_on_device`")
    if len(calls) != settings.streams:
        raise SettingError(f"{settings.streams} streams want as many bound calls, got {len(calls)}")
    if isinstance(settings, MultiStream):
        callers = run_multi_stream(calls, settings, clock, sleep)
        return {"counts": [len(one.done_ns) for one in callers]}, {
            "issued_ns": np.concatenate([one.issued_ns for one in callers]),
            "done_ns": np.concatenate([one.done_ns for one in callers]),
        }
    if isinstance(settings, Offline):
        issued_ns, done_ns = run_offline(calls, settings.calls, clock, sleep)
        return {}, {"issued_ns": issued_ns, "done_ns": done_ns}
    best = find_server_rate(calls, settings, clock, sleep)
    samples = [outcome for _, outcome in best.probes]
    return {
        "rates_per_s": [rate for rate, _ in best.probes],
        "counts": [len(one.done_ns) for one in samples],
        "ended": best.ended,
    }, {
        "scheduled_ns": np.concatenate([one.scheduled_ns for one in samples]),
        "issued_ns": np.concatenate([one.issued_ns for one in samples]),
        "done_ns": np.concatenate([one.done_ns for one in samples]),
    }


def run_on_device(
    question: Mapping[str, Any], timer: Callable[[int], Array], *, replays_graph: bool
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Time inferences on the device's own clock, in the measured process; `parse` turns the answer into a record.

    Parameters
    ----------
    question : Mapping
        See `question_of`.
    timer : callable
        Runs the given number of inferences and returns their nanoseconds; see `backends.base.DeviceTimer`.
    replays_graph : bool
        Whether it launches one captured graph.
    """
    settings = settings_of(question)
    assert isinstance(settings, Device)
    timer(max(_FEWEST_WARM, settings.calls // 10))
    return {"replays_graph": replays_graph}, {"device_ns": timer(settings.calls)}


def parse(
    question: Mapping[str, Any], answer: Mapping[str, Any], arrays: Mapping[str, Array], *, batch: int = 1
) -> ScenarioResult:
    """Turn the answer of `run_scenario` to `question` into a record.

    Parameters
    ----------
    question, answer, arrays : Mapping
        The question, and the returned answer and arrays.
    batch : int, default=1
        Examples per call.
    """
    settings = settings_of(question)
    if isinstance(settings, Device):
        times, graph = _times(arrays["device_ns"]), bool(answer["replays_graph"])
        return DeviceResult(settings=settings, batch=batch, device_ns=times, replays_graph=graph)
    if isinstance(settings, Offline):
        return OfflineResult(
            settings=settings, batch=batch, issued_ns=_times(arrays["issued_ns"]), done_ns=_times(arrays["done_ns"])
        )
    parts = {name: _split(array, answer["counts"]) for name, array in arrays.items()}
    if isinstance(settings, MultiStream):
        return MultiStreamResult(settings=settings, batch=batch, **parts)
    probes = tuple(
        _probe(settings, number, rate, {name: part[number] for name, part in parts.items()})
        for number, rate in enumerate(answer["rates_per_s"])
    )
    return ServerResult(settings=settings, batch=batch, probes=probes, ended=answer["ended"])


def _probe(settings: Server, number: int, rate_per_s: float, times: Mapping[str, tuple[int, ...]]) -> ServerProbe:
    return ServerProbe(
        rate_per_s=rate_per_s,
        seed=(settings.seed + number) % 2**32,
        planned=settings.probe_queries,
        bound_ns=settings.bound_ns,
        share=settings.share,
        streams=settings.streams,
        scheduled_ns=times["scheduled_ns"],
        issued_ns=times["issued_ns"],
        done_ns=times["done_ns"],
    )


def _times(array: Array) -> tuple[int, ...]:
    return tuple(array.tolist())


def _split(array: Array, counts: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    ends = np.cumsum(counts)[:-1]
    return tuple(_times(part) for part in np.split(array, ends))
