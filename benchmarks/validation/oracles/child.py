"""Run one validation job in a separate process (``python -m benchmarks.validation.oracles.child``).

``measure`` measures a model our way, as the counterpart of a tool with its own process. ``loadgen`` compiles a model
once and puts LoadGen's load and ours on the same calls in turn: only the load differs. ``benchmark_app`` compiles a
model our way and with its hint, and measures the two in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from backends import registry
from backends.base import Array, CompiledModel, CompileOptions
from benchmarks.process.channel import Message
from benchmarks.process.child import Conversation
from benchmarks.process.serving import serve_parent
from benchmarks.scenarios.arrivals import poisson_arrivals
from benchmarks.scenarios.definitions import MultiStream
from benchmarks.scenarios.entry import parse, question_of, run_scenario
from benchmarks.scenarios.offline import run_offline
from benchmarks.scenarios.records import MultiStreamResult
from benchmarks.scenarios.server import run_server
from benchmarks.scenarios.waiting import SPIN_NS, sharp_timers
from benchmarks.subject.inputs import example_inputs, model_specs
from benchmarks.validation.oracles.benchmark_app import BenchmarkAppLoop
from benchmarks.validation.oracles.loadgen import LoadGenScenario, percentile_of_loadgen, run_loadgen

__all__ = ["ask_child", "main"]

_CLOCK = time.perf_counter_ns
_WARM_UP_NS = 300_000_000
_SHARES = (0.5, 0.9)
_NO_BOUND_NS = 10**15
_SERVERS = {SPIN_NS: "Server", 0: "Server asleep"}
"""How long idle streams spin at the end of a wait (0: sleep, as LoadGen does) -> name."""
_Calls = Sequence[Callable[[], None]]


def ask_child(job: dict[str, Any], *, timeout_s: float = 600.0) -> Any:
    """Run a job in a separate process.

    Parameters
    ----------
    job : dict
        ``name`` and ``model``. For ``measure`` also ``backend``, ``options`` (of `CompileOptions`) and ``duration_s``;
        for ``loadgen`` the same two, ``rounds``, ``queries``, ``utilisation`` and ``seed``; for ``benchmark_app``
        ``hint``, ``rounds`` and ``queries``.
    timeout_s : float, default=600.0
        Seconds within which it must end.

    Returns
    -------
    JSON
        ``measure``: ``median_ns`` and ``throughput_per_s``. Otherwise, for each round a mapping from the quantity to
        (ours, theirs).

    Raises
    ------
    WorkerError
        The job failed, or took too long.
    """
    name = job["name"]
    with Conversation(["-m", __name__], who=f"{name} of {job['model']}", timeout_s=timeout_s) as process:
        return process.ask(name, job)[0]["answer"]


def main() -> None:
    """Serve the parent process."""
    serve_parent({name: partial(_answer, work) for name, work in _JOBS.items()})


def _answer(
    work: Callable[[dict[str, Any]], Any], job: Message, _: dict[str, Array]
) -> tuple[Message, dict[str, Array]]:
    return {"answer": work(job)}, {}


def _measure(job: dict[str, Any]) -> dict[str, float]:
    with closing(_compiled(job)) as compiled:
        calls = _bound(compiled, job["options"]["streams"])
        _run(calls, _WARM_UP_NS)
        result = _run(calls, round(1e9 * job["duration_s"]))
    return {"median_ns": result.percentile_ns(0.5), "throughput_per_s": result.throughput_per_s}


def _loadgen(job: dict[str, Any]) -> list[dict[str, tuple[float, float]]]:
    with closing(_compiled(job)) as compiled:
        calls = _bound(compiled, job["options"]["streams"])
        warm = _run(calls, _WARM_UP_NS)
        rate_per_s = job["utilisation"] * warm.throughput_per_s
        # Timer slack would delay the end of LoadGen's waits; ours have none, so both get none.
        with sharp_timers():
            return [_round(calls, job["queries"], rate_per_s, job["seed"], number) for number in range(job["rounds"])]


def _benchmark_app(job: dict[str, Any]) -> list[dict[str, tuple[float, float]]]:
    backend = registry.create("openvino")
    backend.load_runtime()
    model, queries = Path(job["model"]), job["queries"]
    loop = BenchmarkAppLoop(model, job["hint"], example_inputs(model_specs(model).inputs))
    options = CompileOptions(threads=max(1, loop.threads // loop.streams), streams=loop.requests)
    with closing(backend.compile(model, options)) as compiled:
        calls = _bound(compiled, loop.requests)
        settings = MultiStream(streams=len(calls), min_calls=queries, min_duration_ns=0)
        _run(calls, _WARM_UP_NS)
        loop.run(queries)
        rounds = []
        for number in range(job["rounds"]):
            if number % 2:
                ours, theirs = _result(calls, settings), loop.run(queries)
            else:
                theirs, ours = loop.run(queries), _result(calls, settings)
            rounds.append(
                {
                    f"{job['hint']} hint, median": (ours.percentile_ns(0.5), theirs.median_ns),
                    f"{job['hint']} hint, per second": (ours.throughput_per_s, theirs.throughput_per_s),
                }
            )
    return rounds


def _round(calls: _Calls, queries: int, rate_per_s: float, seed: int, number: int) -> dict[str, tuple[float, float]]:
    """Run each scenario our way and right after it LoadGen's way, in alternating order from round to round."""
    arrivals = seed + number
    pairs: dict[str, tuple[float, float]] = {}
    arms: tuple[tuple[Callable[[], dict[str, float]], Callable[[], dict[str, float]]], ...] = (
        (lambda: _our_requests(calls, queries), lambda: _their_load("SingleStream", calls[:1], queries)),
        *(
            (
                lambda spin_ns=spin_ns: _our_server(calls, queries, rate_per_s, arrivals, spin_ns),
                lambda name=name: _their_load("Server", calls, queries, rate_per_s, arrivals, name=name),
            )
            for spin_ns, name in _SERVERS.items()
        ),
        (lambda: _our_offline(calls, queries), lambda: _their_load("Offline", calls, queries)),
    )
    for our_arm, their_arm in arms:
        if number % 2:
            ours, theirs = our_arm(), their_arm()
        else:
            theirs, ours = their_arm(), our_arm()
        pairs |= {quantity: (ours[quantity], theirs[quantity]) for quantity in ours}
    return pairs


def _our_requests(calls: _Calls, queries: int) -> dict[str, float]:
    result = _result(calls[:1], MultiStream(streams=1, min_calls=queries, min_duration_ns=0))
    return _percentiles("SingleStream", result.latencies_ns.tolist())


def _our_server(calls: _Calls, queries: int, rate_per_s: float, seed: int, spin_ns: int) -> dict[str, float]:
    arrivals = poisson_arrivals(rate_per_s, queries, seed)
    samples = run_server(
        calls, arrivals, bound_ns=_NO_BOUND_NS, share=0.5, clock=_CLOCK, sleep=time.sleep, spin_ns=spin_ns
    )
    return _percentiles(_SERVERS[spin_ns], (samples.done_ns - samples.scheduled_ns).tolist())


def _our_offline(calls: _Calls, queries: int) -> dict[str, float]:
    _, done_ns = run_offline(calls, queries, _CLOCK, time.sleep)
    return {"Offline per second": 1e9 * queries / int(done_ns.max())}


def _their_load(
    scenario: LoadGenScenario, calls: _Calls, queries: int, rate_per_s: float = 1.0, seed: int = 0, *, name: str = ""
) -> dict[str, float]:
    numbers = run_loadgen(scenario, calls, queries, rate_per_s=rate_per_s, bound_ns=_NO_BOUND_NS, seed=seed)
    if numbers.samples_per_s is not None:
        return {"Offline per second": numbers.samples_per_s}
    return {f"{name or scenario} p{100 * share:g}": numbers.percentiles_ns[share] for share in _SHARES}


def _percentiles(scenario: str, latencies_ns: list[int]) -> dict[str, float]:
    return {f"{scenario} p{100 * share:g}": percentile_of_loadgen(latencies_ns, share) for share in _SHARES}


def _compiled(job: dict[str, Any]) -> CompiledModel:
    return registry.create(job["backend"]).compile(Path(job["model"]), CompileOptions(**job["options"]))


def _bound(compiled: CompiledModel, streams: int) -> list[Callable[[], None]]:
    feeds = example_inputs(compiled.inputs)
    return [compiled.bind(feeds) for _ in range(streams)]


def _run(calls: _Calls, duration_ns: int) -> MultiStreamResult:
    return _result(calls, MultiStream(streams=len(calls), min_calls=len(calls), min_duration_ns=duration_ns))


def _result(calls: _Calls, settings: MultiStream) -> MultiStreamResult:
    question = question_of(settings)
    result = parse(question, *run_scenario(question, calls, _CLOCK, time.sleep))
    assert isinstance(result, MultiStreamResult)
    return result


_JOBS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "measure": _measure,
    "loadgen": _loadgen,
    "benchmark_app": _benchmark_app,
}


if __name__ == "__main__":
    main()
