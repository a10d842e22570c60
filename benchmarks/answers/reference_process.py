"""Compute the answers of an ONNX file without any optimisation, and record what was executed.

``python -m benchmarks.answers.reference_process`` is a separate process, because the parent process holds no runtime.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from backends import modelfile, registry
from backends.base import Array, CompileOptions
from backends.errors import ModelLoadError, RunError, one_line
from backends.ort_errors import cause, failures, run_error
from backends.ort_values import run, values_of
from benchmarks.answers.comparing import distance
from benchmarks.answers.shaking import shaken, shaken_model
from benchmarks.process.channel import Message
from benchmarks.process.limits import limit_memory
from benchmarks.process.serving import serve_parent
from benchmarks.subject.executions import Execution, Executions, flattened, name_by_place

__all__ = ["RUNTIMES", "main", "run_unoptimised", "watch"]

RUNTIMES = {
    "ort": "ONNX Runtime, graph optimisations off",
    "openvino": "OpenVINO",
    "onnx": "ONNX's reference evaluator",
    "torch": "torch",
}
"""Runtimes that may answer, in the order tried, with their display names."""

_Event = tuple[str, tuple[tuple[str, tuple[int, ...]], ...], tuple[tuple[str, tuple[int, ...]], ...]]
"""Node, and the types and shapes of its inputs and outputs."""
_BITS = {"bool": 8, "string": 0, "float": 32, "double": 64}
"""Sizes of types whose name in a profile does not end in their size."""


def main() -> None:
    """Serve the parent process."""
    limit_memory()
    serve_parent({"answer": _answer, "watch": _watch, "shake": _shake})


def _answer(question: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    model, by = Path(question["model"]), question["by"]
    if by == "ort":
        return {}, run_unoptimised(model, feeds)
    return {}, _evaluated(model, feeds) if by == "onnx" else _run_by(by, model, feeds)


def _shake(question: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    model, step, inside = Path(question["model"]), question["step"], question["inside"]
    answers = run_unoptimised(model, feeds)
    moved = dict.fromkeys(answers, 0.0)
    for draw in range(question["draws"]):
        try:
            again = _shaken(model, feeds, step, inside, draw)
        except (ModelLoadError, RunError):  # the inserted nodes do not fit every model: move only its weights
            again = _shaken(model, feeds, step, 0.0, draw)
        for name, answer in answers.items():
            other = again.get(name)  # a sequence may have fewer elements
            alike = other is not None and other.shape == answer.shape
            moved[name] = max(moved[name], distance(other, answer) if other is not None and alike else np.inf)
    return {}, {name: np.array(largest) for name, largest in moved.items()}


def _shaken(model: Path, feeds: Mapping[str, Array], step: float, inside: float, draw: int) -> dict[str, Array]:
    rng = np.random.default_rng(draw)
    with tempfile.TemporaryDirectory(prefix="prune-deploy-shake-") as folder:
        return run_unoptimised(
            shaken_model(model, Path(folder), step, rng, inside=inside),
            {name: shaken(array, step, rng) for name, array in feeds.items()},
        )


def _run_by(backend: str, model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model once on a backend, in fp32 if the file computes in floating point and the backend can."""
    precision = modelfile.read(model).precision
    if backend == "openvino" and precision != "int8":
        precision = "fp32"
    return registry.create(backend).compile(model, CompileOptions(precision=precision)).run(feeds)


def _evaluated(model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(str(model))
        answers = evaluator.run(None, dict(feeds))
    except Exception as error:  # operators written in Python raise anything
        raise RunError(f"onnx: {one_line(error)}") from error
    return {name: np.asarray(answer) for name, answer in zip(evaluator.output_names, answers, strict=True)}


def _watch(question: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    executions = watch(Path(question["model"]), feeds)
    return {"executions": {path: [asdict(one) for one in ran] for path, ran in executions.items()}}, {}


def run_unoptimised(model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model once in ONNX Runtime with all graph optimisations off.

    Raises
    ------
    ModelLoadError
        ONNX Runtime cannot load it.
    RunError
        It cannot run the model, or not on these inputs.
    """
    specs = modelfile.read(model).inputs
    return _run(_session(str(model), _settings()), values_of(specs, feeds))


def watch(model: Path, feeds: Mapping[str, Array]) -> Executions:
    """Run a model once and return what was executed, by `node_path`, including bodies of control flow.

    Raises
    ------
    ModelLoadError, RunError
        See `run_unoptimised`.
    """
    import onnx

    proto = flattened(onnx.load(model, load_external_data=False))
    name_by_place(proto.graph)
    settings = _settings()
    # A graph given as bytes has no folder in which to find its weights.
    settings.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(model.resolve().parent)
    )
    settings.add_session_config_entry("session.disable_prepacking", "1")  # packed weights are missing from the profile
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="prune-deploy-watch-") as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(proto.SerializeToString(), settings)
        try:
            _run(session, values_of(modelfile.read(model).inputs, feeds))
        finally:
            profile = Path(session.end_profiling())
        events = json.loads(profile.read_text(encoding="utf-8"))
    return _executions(events)


def _executions(events: list[dict[str, Any]]) -> Executions:
    counts: Counter[_Event] = Counter(
        (event["name"].removesuffix("_kernel_time"), _tensors(event, "input"), _tensors(event, "output"))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )
    executions: dict[str, list[Execution]] = {}
    for (path, read, written), times in counts.items():
        executions.setdefault(path, []).append(
            Execution(
                read=tuple(shape for _, shape in read),
                written=tuple(shape for _, shape in written),
                written_bytes=tuple(math.prod(shape) * _bits(kind) // 8 for kind, shape in written),
                times=times,
            )
        )
    return executions


def _tensors(event: dict[str, Any], side: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    listed = event["args"].get(f"{side}_type_shape", [])
    return tuple((kind, tuple(shape)) for tensor in listed for kind, shape in tensor.items())


def _bits(kind: str) -> int:
    digits = re.match(r"[a-z]*?(\d+)", kind)
    return _BITS[kind] if kind in _BITS else int(digits[1]) if digits else 0


def _settings() -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4  # relevant errors are raised
    return settings


def _session(model: str | bytes, settings: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except failures() as error:
        raise ModelLoadError(f"onnxruntime: {cause(error)}") from error


def _run(session: Any, values: Mapping[str, Any]) -> dict[str, Array]:
    try:
        return run(session, values)
    except failures() as error:
        raise run_error(error, "onnxruntime") from error


if __name__ == "__main__":
    main()
