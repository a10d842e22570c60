"""MLPerf LoadGen as an oracle: the same calls under its load instead of ours.

It comes from the optional wheel ``mlcommons-loadgen`` (``pip install -e '.[loadgen]'``), whose module is named
``mlperf_loadgen``. LoadGen keeps its state in the process and runs one test at a time, so it belongs in a separate
process: see `benchmarks.validation.oracles.child`. What it measures here is not an MLPerf result.
"""

from __future__ import annotations

import json
import math
import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from benchmarks.errors import WorkerError
from prune_deploy import how_to_install

__all__ = ["LoadGenNumbers", "LoadGenScenario", "missing", "percentile_of_loadgen", "run_loadgen"]

LoadGenScenario = Literal["SingleStream", "Server", "Offline"]
_SAMPLES = 16  # size of the sample library; all samples are the same here
_PERCENTILES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadGenNumbers:
    """What LoadGen reports for one test.

    Parameters
    ----------
    scenario : str
        LoadGen's name of the scenario.
    queries : int
        Issued queries as LoadGen counts them; a single one in Offline.
    percentiles_ns : dict of float to int
        Latencies by share, by LoadGen's convention.
    samples_per_s : float or None
        Offline only.
    over_bound : int or None
        Queries over the bound; Server only.
    early_stopping_met : bool
        Whether LoadGen's early-stopping rule is met.
    schedule_ns : int
        Scheduled time of the query after the last one.
    """

    scenario: LoadGenScenario
    queries: int
    percentiles_ns: dict[float, int]
    samples_per_s: float | None
    over_bound: int | None
    early_stopping_met: bool
    schedule_ns: int


def missing() -> str:
    """Return why LoadGen cannot be used here and what to do; empty if it can."""
    if find_spec("mlperf_loadgen") is None:
        return f"mlperf_loadgen is not installed: {how_to_install('loadgen')} (no wheel for Linux on ARM)"
    return ""


def percentile_of_loadgen(samples_ns: Sequence[int], share: float) -> int:
    """Return a percentile as LoadGen does: the value at index ``int(n * share)`` of the sorted samples.

    Parameters
    ----------
    samples_ns : sequence of int
        At least one.
    share : float
        In (0, 1).
    """
    return sorted(samples_ns)[math.floor(len(samples_ns) * share)]


def run_loadgen(
    scenario: LoadGenScenario,
    calls: Sequence[Callable[[], None]],
    queries: int,
    *,
    rate_per_s: float = 1.0,
    bound_ns: int = 1_000_000_000,
    share: float = 0.99,
    seed: int = 0,
) -> LoadGenNumbers:
    """Run one test in this process; at most one at a time.

    A single call answers on LoadGen's issuing thread; several answer on their own threads, behind a queue.

    Parameters
    ----------
    scenario : {"SingleStream", "Server", "Offline"}
        See LoadGen.
    calls : sequence of callable
        One per stream; SingleStream uses the first.
    queries : int
        Exact number of queries (Offline: samples).
    rate_per_s, bound_ns, share, seed
        Server: arrivals per second, the latency bound, the share that must meet it, and the seed of the schedule.

    Raises
    ------
    WorkerError
        LoadGen is not installed, or it reports errors.
    """
    if reason := missing():
        raise WorkerError(reason)
    mlperf_loadgen: Any = import_module("mlperf_loadgen")  # it has no type hints
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, scenario)
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.min_query_count = 0, queries
    settings.server_target_qps, settings.server_target_latency_ns = rate_per_s, bound_ns
    settings.server_target_latency_percentile = share
    settings.schedule_rng_seed = seed
    system = _System(mlperf_loadgen, calls)
    with tempfile.TemporaryDirectory(prefix="prune-deploy-loadgen-") as folder:
        output = mlperf_loadgen.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = mlperf_loadgen.LogSettings()
        logs.enable_trace, logs.log_output = False, output
        library = mlperf_loadgen.ConstructQSL(_SAMPLES, _SAMPLES, lambda _: None, lambda _: None)
        tested = mlperf_loadgen.ConstructSUT(system.issue, lambda: None)
        try:
            mlperf_loadgen.StartTestWithLogSettings(tested, library, settings, logs)
        finally:
            mlperf_loadgen.DestroySUT(tested)
            mlperf_loadgen.DestroyQSL(library)
            system.close()
        facts = _facts(Path(folder) / "mlperf_log_detail.txt")
    if system.failures:
        raise WorkerError(f"a call under LoadGen failed: {system.failures[0]}")
    if facts.get("num_errors"):
        raise WorkerError(f"LoadGen reports {facts['num_errors']} errors")
    return LoadGenNumbers(
        scenario=scenario,
        queries=facts["result_query_count"],
        percentiles_ns={one: facts[f"result_{100 * one:.2f}_percentile_latency_ns"] for one in _PERCENTILES},
        samples_per_s=facts.get("result_samples_per_second"),
        over_bound=facts.get("result_overlatency_query_count"),
        early_stopping_met=facts["early_stopping_met"],
        schedule_ns=facts["generated_query_duration"],
    )


class _System:
    """LoadGen's system under test."""

    def __init__(self, loadgen: Any, calls: Sequence[Callable[[], None]]) -> None:
        self._loadgen = loadgen
        self._calls = calls
        self._waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._serve, args=(call,)) for call in calls if len(calls) > 1]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        for sample in samples:
            if self._threads:
                self._waiting.put(sample.id)
            else:
                self._answer(self._calls[0], sample.id)

    def _serve(self, call: Callable[[], None]) -> None:
        while (sample := self._waiting.get()) is not None:
            self._answer(call, sample)

    def _answer(self, call: Callable[[], None], sample: int) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - LoadGen waits for every answer, so a failure is kept until the end
            self.failures.append(error)
        self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(sample, 0, 0)])

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()


def _facts(log: Path) -> dict[str, Any]:
    """Read ``:::MLLOG {json}`` lines; the last value of a repeated key counts."""
    facts: dict[str, Any] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        _, found, text = line.partition(":::MLLOG ")
        if found:
            entry = json.loads(text)
            facts[entry["key"]] = entry["value"]
    return facts
