"""Answers of an ONNX file as written, without any optimisation.

``python -m benchmarks.answers.reference_process`` is a process of its own, because the one that decides holds no
runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backends import modelfile
from backends.base import Array
from backends.errors import ModelLoadError, RunError, one_line
from benchmarks.process.channel import Message
from benchmarks.process.serving import serve_parent

__all__ = ["main", "run_unoptimised"]


def main() -> None:
    """Answer the parent."""
    serve_parent({"answer": _answer})


def _answer(question: Message, feeds: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    model = Path(question["model"])
    modelfile.read(model)
    return {}, run_unoptimised(model, feeds)


def run_unoptimised(model: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model once in ONNX Runtime with all graph optimisations off.

    Raises
    ------
    ModelLoadError
        ONNX Runtime cannot load it.
    RunError
        It cannot run it, or not on these inputs.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (getattr(state, name) for name in dir(state))
    # Where it has no class of its own for a failure, it raises a plain RuntimeError; types it does not know are that.
    failures: tuple[type[Exception], ...] = (
        RuntimeError,
        *(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)),
    )
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4  # what is worth saying is raised
    try:
        session = onnxruntime.InferenceSession(
            str(model), settings, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except failures as error:
        raise ModelLoadError(f"onnxruntime: {one_line(error)}") from error
    names = [output.name for output in session.get_outputs()]
    try:
        answers = session.run(names, {name: _feed(array) for name, array in feeds.items()})
    except failures as error:
        raise RunError(f"onnxruntime: {one_line(error)}") from error
    return {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)}


def _feed(array: Array) -> object:
    """Return what ONNX Runtime takes: bfloat16, which NumPy lacks, needs its ONNX name."""
    if array.dtype.name != "bfloat16":
        return array
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)


if __name__ == "__main__":
    main()
