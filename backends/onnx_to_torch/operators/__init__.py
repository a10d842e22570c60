"""The ONNX operators (opset 13 and later) that the torch backends support, each written as torch calls."""

from __future__ import annotations

from backends.onnx_to_torch.operators import arithmetic, layers, shapes
from backends.onnx_to_torch.operators.table import Operator

__all__ = ["TABLE"]

TABLE: dict[str, Operator] = {**arithmetic.TABLE, **layers.TABLE, **shapes.TABLE}
