"""Answers of an ONNX file as written, without any optimisation.

``python -m benchmarks.answers.reference_process MODEL IN OUT PARENT`` is a process of its own, because
the one that decides holds no runtime. It ends with the process PARENT (Linux).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backends import modelfile
from backends.base import Array
from backends.errors import BackendError, ModelLoadError, RunError, one_line
from benchmarks.process.channel import die_with_parent

__all__ = ["REFUSED", "main", "run_unoptimised"]

REFUSED = 3
"""Exit code when the model or its inputs are refused; the reason is the last line on standard error."""


def main(arguments: list[str]) -> int:
    """Read inputs, run once, write outputs; return the exit code."""
    model, asked, answered = map(Path, arguments[:3])
    die_with_parent()
    if os.getppid() != int(arguments[3]):
        return REFUSED  # it died before we could ask to die with it
    try:
        _answer(model, asked, answered)
    except BackendError as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return REFUSED
    return 0


def _answer(model: Path, asked: Path, answered: Path) -> None:
    from benchmarks.answers.reference import Reference, read_reference, write_reference

    modelfile.read(model)
    feeds = read_reference(asked).inputs
    outputs = run_unoptimised(model, feeds)
    write_reference(answered, Reference(inputs=feeds, outputs=outputs, source=""))


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
    """Give what ONNX Runtime takes: bfloat16, which NumPy lacks, needs its ONNX name."""
    if array.dtype.name != "bfloat16":
        return array
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
