"""Answers of an ONNX file as written, without any optimisation: ``python -m benchmarks.plain_answers MODEL IN OUT``.

A process of its own, because the one that decides holds no runtime.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from backends import modelfile
from backends.errors import BackendError, ModelLoadError, one_line

__all__ = ["REFUSED", "main"]

REFUSED = 3
"""Exit code when the model or its inputs are refused; the reason is the last line on standard error."""


def main(arguments: list[str]) -> int:
    """Read inputs, run once, write outputs; return the exit code."""
    model, asked, answered = map(Path, arguments)
    try:
        _answer(model, asked, answered)
    except BackendError as error:
        sys.stderr.write(f"{one_line(error)}\n")
        return REFUSED
    return 0


def _answer(model: Path, asked: Path, answered: Path) -> None:
    from benchmarks.reference import Reference, read_reference, write_reference

    modelfile.read(model)
    feeds = read_reference(asked).inputs
    outputs = _run_unoptimised(model, feeds)
    write_reference(answered, Reference(inputs=feeds, outputs=outputs, source=""))


def _run_unoptimised(model: Path, feeds: object) -> dict[str, np.ndarray]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (getattr(state, name) for name in dir(state))
    failures = tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))
    except failures as error:
        raise ModelLoadError(f"onnxruntime: {one_line(error)}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
