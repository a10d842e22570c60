"""Check that an ONNX file is valid. Imports no torch and no runtime."""

from __future__ import annotations

from pathlib import Path

import onnx

from backends import modelfile
from backends.errors import ModelLoadError, OptionError, one_line
from deploy.errors import ExportError

__all__ = ["check_onnx", "model_files", "opset_of"]


def check_onnx(path: Path) -> None:
    """Check a file with `onnx.checker`, and infer every type and shape strictly, with data propagation.

    Parameters
    ----------
    path : Path
        An ONNX file; external data is looked for beside it.

    Raises
    ------
    ExportError
        One line: the file is missing, truncated, refers to external data that is not there, has an unknown operator,
        or its types and shapes contradict each other.
    """
    try:
        modelfile.read(path)  # missing, truncated, without its external data: the same messages as from the backends
    except (ModelLoadError, OptionError) as error:
        raise ExportError(str(error)) from error
    try:
        onnx.checker.check_model(str(path), full_check=True)
        skeleton = onnx.load(path, load_external_data=False)
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ExportError(f"{path} is not valid ONNX: {one_line(error)}") from error
    for value in inferred.graph.output:
        tensor = value.type.tensor_type
        if not tensor.elem_type or not tensor.HasField("shape"):
            raise ExportError(f"{path}: type and shape of output {value.name!r} cannot be inferred")


def model_files(path: Path) -> tuple[Path, ...]:
    """List the ONNX file and the files that hold its external data, the ONNX file first."""
    return (path, *(path.parent / name for name in modelfile.external_files(onnx.load(path, load_external_data=False))))


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operator set that `model` imports; 0 when it imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
