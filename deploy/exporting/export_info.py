"""Record of how an ONNX file was exported. Imports no torch: it is also read where torch is not installed."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from backends.base import TensorSpec
from benchmarks.records.base import Record
from deploy.errors import ExportError

__all__ = ["DEFAULT_OPSET", "OPSETS", "ExportInfo", "require_opset"]

DEFAULT_OPSET = 20
OPSETS = range(18, 24)
"""Operator sets that can be requested: the exporter works in 18 and converts upwards."""


class ExportInfo(Record):
    """How an ONNX file was exported, and its inputs and outputs."""

    opset: PositiveInt
    ir_version: PositiveInt
    exporter: Literal["torch.onnx dynamo"] = "torch.onnx dynamo"
    torch_version: str
    onnxscript_version: str
    onnx_version: str
    dynamic_batch: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    n_nodes: PositiveInt
    batch_norms_folded: NonNegativeInt
    batch_norms_left: tuple[str, ...]
    external_data: bool
    file_bytes: PositiveInt
    sha256: str


def require_opset(opset: int) -> None:
    """Refuse an operator set that cannot be exported.

    Raises
    ------
    ExportError
        It is not one of `OPSETS`.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} cannot be exported; choose one of {OPSETS[0]} to {OPSETS[-1]}")
