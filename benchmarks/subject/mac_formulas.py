"""Multiply-accumulates of one node, from the shapes of what it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.errors import CostError

if TYPE_CHECKING:
    import onnx

__all__ = ["FORMULAS", "Shape", "ShapeOf", "integer_attribute"]

Shape: TypeAlias = tuple[int, ...]
ShapeOf: TypeAlias = "Callable[[onnx.NodeProto, str], Shape]"
"""Returns the shape of a tensor that a node reads or writes."""


def integer_attribute(node: onnx.NodeProto, name: str) -> int:
    """Return an integer attribute of a node, 0 where it is not given."""
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _convolution(node: onnx.NodeProto, shape: ShapeOf) -> int:
    # Each output element sums over the weights of one filter, whose first axis counts the filters.
    return math.prod(shape(node, node.output[0])) * math.prod(shape(node, node.input[1])[1:])


def _quantised_convolution(node: onnx.NodeProto, shape: ShapeOf) -> int:
    # Each tensor is followed by its scale and zero point: the filters are input 3.
    return math.prod(shape(node, node.output[0])) * math.prod(shape(node, node.input[3])[1:])


def _transposed_convolution(node: onnx.NodeProto, shape: ShapeOf) -> int:
    # Each input element meets the weights of its channel, whose first axis counts the input channels.
    return math.prod(shape(node, node.input[0])) * math.prod(shape(node, node.input[1])[1:])


def _gemm(node: onnx.NodeProto, shape: ShapeOf) -> int:
    left = shape(node, node.input[0])
    inner = left[0] if integer_attribute(node, "transA") else left[1]
    return math.prod(shape(node, node.output[0])) * inner


def _matrix_product(node: onnx.NodeProto, shape: ShapeOf) -> int:
    left = shape(node, node.input[0])
    inner = left[-2] if integer_attribute(node, "transA") and len(left) > 1 else left[-1]
    return math.prod(shape(node, node.output[0])) * inner


def _recurrence(node: onnx.NodeProto, shape: ShapeOf) -> int:
    steps = math.prod(shape(node, node.input[0])[:2])
    return steps * sum(math.prod(shape(node, name)) for name in node.input[1:3])


def _attention(node: onnx.NodeProto, shape: ShapeOf) -> int:
    """Count query times key, and their product times value: inputs Q, K, V, mask, past_key."""
    keys = shape(node, node.input[1])[-2]
    if len(node.input) > 4 and node.input[4]:
        keys += shape(node, node.input[4])[-2]
    return keys * (math.prod(shape(node, node.input[0])) + math.prod(shape(node, node.output[0])))


def _einsum(node: onnx.NodeProto, shape: ShapeOf) -> int:
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if "." in equation or len(terms) > 2:
        raise CostError(f"node {node.name!r}: the MACs of Einsum {equation!r} are not counted")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        for letter, size in zip(term, shape(node, name), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


FORMULAS: Mapping[str, Callable[[onnx.NodeProto, ShapeOf], int]] = {
    "Attention": _attention,
    "CausalConvWithState": _convolution,
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DeformConv": _convolution,
    "Einsum": _einsum,
    "FusedConv": _convolution,
    "FusedGemm": _gemm,
    "FusedMatMul": _matrix_product,
    "GRU": _recurrence,
    "Gemm": _gemm,
    "LSTM": _recurrence,
    "MatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "QLinearConv": _quantised_convolution,
    "QLinearMatMul": _matrix_product,
    "RNN": _recurrence,
}
"""Multiply-accumulates of one node, for the batch in its shapes, by operator."""
