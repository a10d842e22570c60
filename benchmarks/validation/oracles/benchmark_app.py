"""OpenVINO's benchmark_app as an oracle: the whole tool in its own process, or its loop beside ours in one process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from backends.base import Array
from benchmarks.errors import WorkerError
from benchmarks.process.child import Child
from prune_deploy import how_to_install

__all__ = ["BenchmarkAppLoop", "BenchmarkAppNumbers", "Hint", "missing", "run_benchmark_app"]

Hint = Literal["latency", "throughput"]
_ENTRY = """
import sys
from benchmarks.process.serving import end_with_parent
from openvino.tools.benchmark.main import main
end_with_parent()
sys.exit(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkAppNumbers:
    """What benchmark_app reports for one run.

    Parameters
    ----------
    median_ns : int
        Median latency of a request; the whole tool rounds it to 10 us, two decimals of a millisecond.
    throughput_per_s : float
        Examples per second.
    iterations : int
        Number of calls.
    streams, threads, requests : int
        OpenVINO's choice for the hint: streams, threads of all streams, and requests in flight.
    """

    median_ns: int
    throughput_per_s: float
    iterations: int
    streams: int
    threads: int
    requests: int


def missing() -> str:
    """Return why benchmark_app cannot be used here and what to do; empty if it can."""
    if find_spec("openvino") is None:
        return f"openvino is not installed: {how_to_install('openvino')}"
    return ""


class BenchmarkAppLoop:
    """The measuring loop of benchmark_app in this process, on its own model compiled with a hint.

    Parameters
    ----------
    model : Path
        An ONNX file without free dimensions.
    hint : {"latency", "throughput"}
        One request at a time, or as many as OpenVINO thinks best.
    feeds : Mapping of str to ndarray
        One array per input; the loop sets them once.

    Raises
    ------
    WorkerError
        OpenVINO is not installed.
    """

    def __init__(self, model: Path, hint: Hint, feeds: Mapping[str, Array]) -> None:
        if reason := missing():
            raise WorkerError(reason)
        tool: Any = import_module("openvino.tools.benchmark.benchmark")
        self._loop = tool.Benchmark("CPU", 0, 1, None, "sync" if hint == "latency" else "async", True)
        settings = {"PERFORMANCE_HINT": hint.upper(), "INFERENCE_PRECISION_HINT": "f32"}
        compiled = self._loop.core.compile_model(str(model), "CPU", settings)
        self._requests = self._loop.create_infer_requests(compiled)
        for request in self._requests:
            for name, array in feeds.items():
                request.set_tensor(name, _tensor(array))
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self.requests = len(self._requests)

    def run(self, n_calls: int) -> BenchmarkAppNumbers:
        """Make `n_calls` calls, or a few more to reach a multiple of the requests in flight."""
        self._loop.niter = n_calls
        per_s, median_ms, *_, made = self._loop.main_loop(self._requests, _Batches(), range(1), 50, False)
        return BenchmarkAppNumbers(
            median_ns=round(1e6 * median_ms),
            throughput_per_s=per_s,
            iterations=made,
            streams=self.streams,
            threads=self.threads,
            requests=self.requests,
        )


class _Batches:
    """Tells the loop how many examples a call has."""

    def get_next_batch_size(self) -> int:
        return 1


def _tensor(array: Array) -> Any:
    return import_module("openvino").Tensor(array)


def run_benchmark_app(
    model: Path, hint: Hint, duration_s: int, *, threads: int | None = None, timeout_s: float = 600.0
) -> BenchmarkAppNumbers:
    """Run benchmark_app in fp32 on a file without free dimensions.

    Parameters
    ----------
    model : Path
        An ONNX file.
    hint : {"latency", "throughput"}
        One request at a time, or as many as OpenVINO thinks best.
    duration_s : int
        Seconds of calls.
    threads : int, optional
        Explicit settings instead of the hint: total number of threads, in one stream for latency and in one stream
        per thread for throughput.
    timeout_s : float, default=600.0
        Seconds within which it must end.

    Raises
    ------
    WorkerError
        OpenVINO is not installed, or the run failed; the message is its own.
    """
    if reason := missing():
        raise WorkerError(reason)
    with tempfile.TemporaryDirectory(prefix="prune-deploy-benchmark-app-") as folder:
        options = {
            "-m": str(model.resolve()),
            "-t": str(duration_s),
            # By default, it would compute in bf16 if the CPU can, and feed images as bytes.
            "-infer_precision": "f32",
            "-ip": "f32",
            "-report_type": "no_counters",
            "-report_folder": folder,
            "-json_stats": "true",
            **_load(hint, threads),
        }
        program = ["-c", _ENTRY, *(word for option in options.items() for word in option)]
        with Child(program, who="benchmark_app") as child:
            child.wait(timeout_s)
            printed = child.output()
        report = Path(folder) / "benchmark_report.json"
        if not report.is_file():
            raise WorkerError(f"benchmark_app wrote no report: {printed.strip()[-200:]}")
        return _numbers(json.loads(report.read_text(encoding="utf-8")), printed)


def _load(hint: Hint, threads: int | None) -> dict[str, str]:
    if threads is None:
        return {"-hint": hint}
    streams = 1 if hint == "latency" else threads
    return {
        "-hint": "none",
        "-api": "sync" if hint == "latency" else "async",
        "-nstreams": str(streams),
        "-nireq": str(streams),
        "-nthreads": str(threads),
    }


def _numbers(report: Mapping[str, Any], printed: str) -> BenchmarkAppNumbers:
    results = report["execution_results"]
    if "error" in results:
        raise WorkerError(f"benchmark_app failed: {results['error']}")
    return BenchmarkAppNumbers(
        median_ns=round(1e6 * float(results["latency (ms)"])),
        throughput_per_s=float(results["throughput"]),
        iterations=int(results["total number of iterations"]),
        streams=_printed(printed, "NUM_STREAMS:"),
        threads=_printed(printed, "INFERENCE_NUM_THREADS:"),
        requests=int(report["configuration_setup"].get("number of parallel infer requests", 1)),
    )


def _printed(printed: str, name: str) -> int:
    for line in printed.splitlines():
        _, found, value = line.partition(name)
        if found:
            return int(value.split()[0])
    raise WorkerError(f"benchmark_app did not print {name.rstrip(':')}")
