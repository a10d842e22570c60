"""Compare our figures with those of third-party tools: ``python -m benchmarks.validation.tool_agreement``.

One model with the same settings is measured by us and by the tool in turn; a row holds the ratio of the two. LoadGen
puts its load on the same calls as ours, in one process, round by round. The loop of benchmark_app also runs beside ours
in one process, on a model that it compiled with its hint. Last comes benchmark_app as people run it, in its own
process, and our measurement in another, pair by pair: on a busy machine these rows are the widest. The ratio is the
median over rounds, with the interval of `benchmarks.stats.summary.median_interval`.

Some differences are inherent: in the Server scenario LoadGen sleeps until an arrival and wakes late, while our streams
spin; in *Server asleep* our streams sleep as LoadGen's do. And a latency of benchmark_app ends when the runtime is
done, ours when the caller has its thread back, some tens of microseconds later.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.records.measurement import Interval
from benchmarks.stats.summary import median_interval
from benchmarks.validation.oracles import benchmark_app, loadgen
from benchmarks.validation.oracles.child import ask_child

__all__ = [
    "TOLERANCE",
    "ToolAgreement",
    "against_benchmark_app",
    "against_its_loop",
    "against_loadgen",
    "main",
    "save_cnn",
]

TOLERANCE = 0.02
"""Largest deviation of the ratio from 1 that counts as agreement."""
_CONFIDENCE = 0.95
_HINTS: tuple[benchmark_app.Hint, ...] = ("latency", "throughput")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAgreement:
    """One quantity as we and another tool measured it.

    Parameters
    ----------
    tool, quantity : str
        Name of the tool, and what was measured.
    ours, theirs : tuple of float
        Values by round; nanoseconds or examples per second.
    """

    tool: str
    quantity: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> Interval:
        """Ours over theirs: median over rounds."""
        logs = [math.log(our / their) for our, their in zip(self.ours, self.theirs, strict=True)]
        interval = median_interval(logs)
        return Interval(
            value=math.exp(interval.value),
            low=math.exp(interval.low),
            high=math.exp(interval.high),
            confidence=interval.confidence,
            n=interval.n,
        )

    @property
    def verdict(self) -> Literal["agrees", "differs", "unclear"]:
        """``agrees`` if the whole interval is within 2 %, ``differs`` if none of it is, else ``unclear``."""
        ratio = self.ratio
        if ratio.confidence < _CONFIDENCE:
            return "unclear"
        if ratio.low >= 1 - TOLERANCE and ratio.high <= 1 + TOLERANCE:
            return "agrees"
        return "differs" if ratio.high < 1 - TOLERANCE or ratio.low > 1 + TOLERANCE else "unclear"


def against_loadgen(
    model: Path, *, rounds: int, queries: int, threads: int = 1, utilisation: float = 0.5, seed: int = 0
) -> list[ToolAgreement]:
    """Compare with LoadGen: put its load and ours on ONNX Runtime in turn.

    Parameters
    ----------
    model : Path
        An ONNX file.
    rounds : int
        At least 2.
    queries : int
        Queries per scenario and round.
    threads : int, default=1
        Threads that compute.
    utilisation : float, default=0.5
        Rate of the Server scenario as a share of the model's maximum throughput.
    seed : int, default=0
        Seed of the arrivals in the first round; both have the same arrivals.

    Raises
    ------
    WorkerError
        LoadGen is not installed, or the run failed.
    """
    rows = ask_child(
        {
            "name": "loadgen",
            "model": str(model.resolve()),
            "backend": "ort",
            "options": {"threads": threads, "streams": 1},
            "rounds": rounds,
            "queries": queries,
            "utilisation": utilisation,
            "seed": seed,
        }
    )
    return [_agreement("LoadGen", quantity, [row[quantity] for row in rows]) for quantity in rows[0]]


def against_its_loop(model: Path, *, rounds: int, queries: int) -> list[ToolAgreement]:
    """Measure OpenVINO in turn with the loop of benchmark_app, in one process.

    Parameters
    ----------
    model : Path
        An ONNX file without free dimensions.
    rounds : int
        At least 2, for each of the hints latency and throughput.
    queries : int
        Calls per round.

    Raises
    ------
    WorkerError
        OpenVINO is not installed, or a run failed.
    """
    agreements = []
    for hint in _HINTS:
        job = {
            "name": "benchmark_app",
            "model": str(model.resolve()),
            "hint": hint,
            "rounds": rounds,
            "queries": queries,
        }
        rows = ask_child(job)
        agreements += [_agreement("its loop", quantity, [row[quantity] for row in rows]) for quantity in rows[0]]
    return agreements


def against_benchmark_app(model: Path, *, pairs: int, duration_s: int) -> list[ToolAgreement]:
    """Measure OpenVINO in pairs of processes, with the streams and threads that benchmark_app's hints chose.

    Parameters
    ----------
    model : Path
        An ONNX file without free dimensions.
    pairs : int
        At least 2, for each of the hints latency and throughput.
    duration_s : int
        Seconds of calls in each process.

    Raises
    ------
    WorkerError
        OpenVINO is not installed, or a run failed.
    """
    agreements = []
    for hint in _HINTS:
        chosen = benchmark_app.run_benchmark_app(model, hint, 1)
        options = {"threads": max(1, chosen.threads // chosen.streams), "streams": chosen.requests}
        job = {
            "name": "measure",
            "model": str(model.resolve()),
            "backend": "openvino",
            "options": options,
            "duration_s": duration_s,
        }
        latencies, throughputs = [], []
        for number in range(pairs):
            if number % 2:
                ours, theirs = ask_child(job), benchmark_app.run_benchmark_app(model, hint, duration_s)
            else:
                theirs, ours = benchmark_app.run_benchmark_app(model, hint, duration_s), ask_child(job)
            latencies.append((ours["median_ns"], theirs.median_ns))
            throughputs.append((ours["throughput_per_s"], theirs.throughput_per_s))
        agreements.append(_agreement("benchmark_app", f"{hint} hint, median", latencies))
        agreements.append(_agreement("benchmark_app", f"{hint} hint, per second", throughputs))
    return agreements


def save_cnn(path: Path, *, layers: int = 12, channels: int = 64, side: int = 28) -> Path:
    """Write a chain of 3x3 convolutions and ReLUs without free dimensions: milliseconds of work on one core."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    weights, nodes = [], []
    for number in range(layers):
        values = 0.04 * generator.standard_normal(shape)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{number}"))
        nodes += [
            helper.make_node("Conv", [f"x{number}", f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"x{number + 1}"]),
        ]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])]
        for name in ("x0", f"x{layers}")
    )
    graph = helper.make_graph(nodes, "chain", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def main(arguments: Sequence[str] | None = None, write: Callable[[str], object] = sys.stdout.write) -> int:
    """Print the table.

    Parameters
    ----------
    arguments : sequence of str, optional
        Defaults to the command line.
    write : callable
        Receives each line.

    Returns
    -------
    int
        Exit status: 0 if all agree within 2 %, 1 if one differs, 3 if one is unclear, 2 if a run failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.tool_agreement", description=__doc__)
    parser.add_argument("--model", type=Path, help="an ONNX file without free dimensions (default: a small CNN)")
    parser.add_argument(
        "--rounds", type=int, default=60, help="against LoadGen and against the loop of benchmark_app (default: 60)"
    )
    parser.add_argument(
        "--queries", type=int, default=40, help="of each scenario in a round against LoadGen (default: 40)"
    )
    parser.add_argument("--calls", type=int, default=120, help="in a round against the loop (default: 120)")
    parser.add_argument("--pairs", type=int, default=12, help="of processes, against benchmark_app (default: 12)")
    parser.add_argument("--seconds", type=int, default=2, help="of each of these processes (default: 2)")
    asked = parser.parse_args(arguments)
    rows: list[ToolAgreement] = []
    try:
        with tempfile.TemporaryDirectory(prefix="prune-deploy-agreement-") as folder:
            model = asked.model or save_cnn(Path(folder) / "cnn.onnx")
            write(f"{'tool':14} {'quantity':26} {'ours':>12} {'theirs':>12} {'ratio':>8}  interval\n")
            if reason := loadgen.missing():
                write(f"LoadGen skipped: {reason}\n")
            else:
                rows += _written(write, against_loadgen(model, rounds=asked.rounds, queries=asked.queries))
            if reason := benchmark_app.missing():
                write(f"benchmark_app skipped: {reason}\n")
            else:
                rows += _written(write, against_its_loop(model, rounds=asked.rounds, queries=asked.calls))
                rows += _written(write, against_benchmark_app(model, pairs=asked.pairs, duration_s=asked.seconds))
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    verdicts = {row.verdict for row in rows}
    return 1 if "differs" in verdicts else 3 if "unclear" in verdicts else 0


def _agreement(tool: str, quantity: str, pairs: Sequence[tuple[float, float]]) -> ToolAgreement:
    ours, theirs = zip(*pairs, strict=True)
    return ToolAgreement(tool=tool, quantity=quantity, ours=ours, theirs=theirs)


def _written(write: Callable[[str], object], rows: list[ToolAgreement]) -> list[ToolAgreement]:
    for row in rows:
        ratio, scale = row.ratio, 1.0 if "per second" in row.quantity else 1e6
        write(
            f"{row.tool:14} {row.quantity:26} {median(row.ours) / scale:12.3f} {median(row.theirs) / scale:12.3f} "
            f"{ratio.value:8.4f}  [{ratio.low:.4f}, {ratio.high:.4f}] at {ratio.confidence:.1%}, "
            f"{row.verdict}\n"
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
