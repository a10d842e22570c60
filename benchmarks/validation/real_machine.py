"""Check the verdicts on this machine: real comparisons whose true speed-up is known.

    python -m benchmarks.validation.real_machine --slowdown 0 --comparisons 40 --output aa.jsonl
    python -m benchmarks.validation.real_machine --slowdown 5 --comparisons 20 --output five.jsonl --load 1
    python -m benchmarks.validation.real_machine --slowdown 3 --margin 0.02 --budget 90 --output three.jsonl

Both models are chains of the same layer; a slow-down of 5 % is 21 layers against 20, one of 3 % is 33 against 32, so
the truth does not depend on a measurement. The naive procedure (`benchmarks.validation.naive`) runs after each
comparison. Each comparison is a line of the output, so an interrupted run can resume, and
`benchmarks.validation.error_rates --recorded` can draw from its pairs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from backends.base import CompileOptions
from benchmarks.errors import RecordError, SettingError
from benchmarks.process.child import Child
from benchmarks.process.measured import MeasuredProcess
from benchmarks.records.disk import read_errors
from benchmarks.runner import Settings, compare
from benchmarks.subject.subject import SubjectSpec
from benchmarks.validation.naive import NAIVE_CALLS, NAIVE_DROPPED, naive_verdict

__all__ = ["chain", "main", "ratios_of_lines"]

LAYERS = {0: (20, 20), 3: (32, 33), 5: (20, 21), 10: (20, 22)}
"""Layers of the baseline and of the candidate, by slow-down in percent."""
_SPIN = "from benchmarks.process.serving import end_with_parent\nend_with_parent()\nwhile True: pass"
_ROWS, _FEATURES = 176, 256
"""With 20 layers: 5 ms on one core of a server."""


def chain(path: Path, layers: int, *, rows: int = _ROWS, features: int = _FEATURES) -> Path:
    """Write a network of `layers` equal layers: matrix product and ReLU, with one shared matrix.

    Parameters
    ----------
    path : Path
        The ONNX file.
    layers : int
        Number of layers; the time is proportional to it.
    rows, features : int
        Each layer takes rows x features x features multiply-accumulates.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).standard_normal((features, features)) * np.sqrt(2 / features)
    nodes = []
    for index in range(layers):
        source = "x" if index == 0 else f"r{index - 1}"
        nodes.append(helper.make_node("MatMul", [source, "w"], [f"m{index}"], name=f"matmul{index}"))
        nodes.append(helper.make_node("Relu", [f"m{index}"], [f"r{index}"], name=f"relu{index}"))
    shape = [rows, features]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"r{layers - 1}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def ratios_of_lines(path: Path) -> list[float]:
    """Read log(baseline / candidate) of each pair of the comparisons of a model with itself that `main` has written.

    Raises
    ------
    RecordError
        The file is missing, or a line was not written by `main`.
    SettingError
        A comparison failed, so it has no pairs, or is of two models; or there is none.
    """
    with read_errors(path, RecordError):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise RecordError(f"{path} is not text") from error
    if not lines:
        raise SettingError(f"{path} holds no comparison")
    ratios: list[float] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            drawn, slowdown = [float(ratio) for ratio in row["log_ratios"]], int(row["slowdown"])
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(f"{path}, line {number} is not a comparison of {__name__}") from error
        if not drawn:
            raise SettingError(f"{path}, line {number} is a comparison that failed: it has no pairs")
        if slowdown:
            raise SettingError(f"{path}, line {number} compares two models; a model with itself is drawn from")
        ratios += drawn
    return ratios


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study and print how often each verdict was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slowdown", type=int, default=0, choices=tuple(LAYERS), help="of the candidate, in percent")
    parser.add_argument("--comparisons", type=int, default=40)
    parser.add_argument("--margin", type=float, default=0.03, help="smallest effect that counts, as a share")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of each")
    parser.add_argument("--backend", default="ort")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--load", type=int, default=0, help="busy processes that run meanwhile")
    parser.add_argument("--output", type=Path, required=True, help="one line of JSON for each comparison")
    given = parser.parse_args(arguments)
    done = given.output.read_text(encoding="utf-8").splitlines() if given.output.exists() else []
    with tempfile.TemporaryDirectory() as folder, _busy(given.load):
        baseline, candidate = LAYERS[given.slowdown]
        rows = _ROWS * LAYERS[0][0] // baseline
        models = {
            "baseline": chain(Path(folder) / "baseline.onnx", baseline, rows=rows),
            "candidate": chain(Path(folder) / "candidate.onnx", candidate, rows=rows),
        }
        options = CompileOptions(threads=given.threads)
        specs = {
            label: SubjectSpec(model=path, label=label, backend=given.backend, options=options)
            for label, path in models.items()
        }
        for number in range(len(done), given.comparisons):
            settings = Settings(seed=number, budget_s=given.budget, margin=given.margin)
            row = _comparison(specs, settings, rows)
            line = json.dumps({"slowdown": given.slowdown, "margin": given.margin, **row})
            with given.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            done.append(line)
            sys.stderr.write(f"{number + 1} of {given.comparisons}: {line[:160]}\n")
    told = [json.loads(line) for line in done]
    seconds = sorted(row["seconds"] for row in told)
    sys.stdout.write(
        f"{len(told)} comparisons, slow-down {given.slowdown} %, load {given.load}: "
        f"{dict(Counter(row['verdict'] for row in told))}; naive: {dict(Counter(row['naive'] for row in told))}; "
        f"median {seconds[len(seconds) // 2]:.0f} s, longest {seconds[-1]:.0f} s\n"
    )


def _comparison(specs: dict[str, SubjectSpec], settings: Settings, rows: int) -> dict[str, object]:
    start = time.monotonic()
    comparison = compare(specs["candidate"], specs["baseline"], settings=settings)
    seconds = time.monotonic() - start
    naive = [_alone(specs[label], rows) for label in ("baseline", "candidate")]
    return {
        "verdict": comparison.verdict,
        "speedup": None if comparison.speedup is None else comparison.speedup.value,
        "ended": comparison.ended,
        "seconds": round(seconds, 1),
        "latency_ns": comparison.baseline.trials[0].calls_ns[0] if comparison.baseline.trials else None,
        "log_ratios": comparison.log_ratios,
        "naive": naive_verdict(naive[0], naive[1]),
        "naive_medians_ns": [float(np.median(calls)) for calls in naive],
    }


def _alone(spec: SubjectSpec, rows: int) -> tuple[int, ...]:
    process = MeasuredProcess(spec, timeout_s=60)
    try:
        process.load({"x": np.ones((rows, _FEATURES), np.float32)})
        return process.block(NAIVE_CALLS, NAIVE_DROPPED)
    finally:
        process.close()


@contextmanager
def _busy(n: int) -> Iterator[None]:
    """Keep `n` processes busy."""
    with ExitStack() as spinning:
        for _ in range(n):
            spinning.enter_context(Child(["-c", _SPIN]))
        yield


if __name__ == "__main__":
    main()
