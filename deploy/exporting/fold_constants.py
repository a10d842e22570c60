"""Fold constants of any size: whatever depends on no input is computed at export. Imports no torch.

The exporter itself folds only small tensors. Whether a file computes a grid of anchors or a normalised weight at each
call would then depend on the size of the image or the width of the layer, and networks of two widths would have
different nodes.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

__all__ = ["fold_large_constants"]

_MOVES = "Cast Concat Expand Flatten Gather Identity Pad Reshape ScatterND Slice Split Squeeze Tile Transpose Unsqueeze"
_ARITHMETIC = "Abs Add Cos Div Exp Log Mul Neg Pow Reciprocal Sigmoid Sin Softmax Softplus Sqrt Sub Tanh Where"
_SUMS = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare"
_LINEAR = frozenset(f"{_MOVES} {_ARITHMETIC} {_SUMS}".split())
"""Operators whose cost is that of reading and writing their tensors, so that evaluating them takes almost no time. The
file grows by no more than the exporter's own limit on the size of a result allows."""


def fold_large_constants(model: ir.Model) -> None:
    """Replace values that are computed from constants alone by their results, in place.

    Quantised weights, random draws and matrix products stay unchanged.

    Parameters
    ----------
    model : Model
        As the exporter's own optimisation leaves it.
    """
    if any(_constant(node) for node in model.graph):
        fold_constants(model, should_fold=lambda node: True if _linear(node) else None)
        RemoveUnusedNodesPass()(model)


def _linear(node: ir.Node) -> bool:
    return not node.domain and node.op_type in _LINEAR


def _constant(node: ir.Node) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    return _linear(node) and bool(inputs) and all(value.is_initializer() for value in inputs)
