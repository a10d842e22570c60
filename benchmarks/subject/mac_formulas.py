"""Multiply-accumulates of one node, from the shapes of its inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import onnx

__all__ = ["NotCountedError", "Shape", "ShapeOf", "integer_attribute", "macs_of", "operator_name"]

Shape: TypeAlias = tuple[int, ...]
ShapeOf: TypeAlias = "Callable[[onnx.NodeProto, str], Shape]"
"""Returns the shape of a tensor that a node reads or writes."""


class NotCountedError(Exception):
    """The MACs of a node are unknown; the message says why."""


def operator_name(node: onnx.NodeProto) -> str:
    """Return the operator of a node with its domain: ``"Conv"``, ``"com.microsoft.BiasGelu"``."""
    return node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"


def macs_of(node: onnx.NodeProto, shape: ShapeOf) -> int:
    """Count the multiply-accumulates of one node other than control flow, for the batch in its shapes.

    Raises
    ------
    NotCountedError
        The operator is not supported, or not for these inputs; or `shape` raises it.
    """
    import onnx

    formula = _formula(node)
    if formula is None:
        known = node.domain in _STANDARD and onnx.defs.has(node.op_type, node.domain)
        if (known and node.op_type not in _UNCOUNTED) or (
            node.domain in _STANDARD | _FUSED and node.op_type in _WITHOUT_MACS
        ):
            return 0
        raise NotCountedError("its operator is not counted")
    try:
        return formula(node, shape)
    except (IndexError, ValueError) as error:
        raise NotCountedError("it has too few inputs, or one of another rank") from error


def _formula(node: onnx.NodeProto) -> Callable[[onnx.NodeProto, ShapeOf], int] | None:
    fused = _FUSED_FORMULAS.get(node.op_type) if node.domain in _FUSED else None
    return fused or (_FORMULAS.get(node.op_type) if node.domain in _STANDARD | _FUSED else None)


def integer_attribute(node: onnx.NodeProto, name: str) -> int:
    """Return an integer attribute of a node, 0 if absent."""
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
    """Count query times key, and that product times value: inputs Q, K, V, mask, past_key."""
    keys = shape(node, node.input[1])[-2]
    if len(node.input) > 4 and node.input[4]:
        keys += shape(node, node.input[4])[-2]
    return keys * (math.prod(shape(node, node.input[0])) + math.prod(shape(node, node.output[0])))


def _projected_attention(node: onnx.NodeProto, shape: ShapeOf) -> int:
    """Count the projections and both products: inputs X, weights, bias, mask, past (input 8 if quantised)."""
    batch, steps, _ = shape(node, node.input[0])
    past = 8 if node.op_type == "QAttention" else 4
    keys = steps + (shape(node, node.input[past])[-2] if len(node.input) > past and node.input[past] else 0)
    size = math.prod(shape(node, node.output[0])[2:])
    return batch * steps * (math.prod(shape(node, node.input[1])) + 2 * keys * size)


def _multi_head_attention(node: onnx.NodeProto, shape: ShapeOf) -> int:
    """Count both products: inputs query, key, value, bias, key mask, bias of the scores, past_key."""
    if len(node.input) < 3 or not node.input[1] or not node.input[2]:
        raise NotCountedError("its query, key and value are packed")
    keys = shape(node, node.input[1])
    past = shape(node, node.input[6])[-2] if len(node.input) > 6 and node.input[6] else 0
    # Keys projected beforehand have their own head axis.
    read = (keys[-2] if len(keys) in (3, 4) else keys[1]) + past
    return read * (math.prod(shape(node, node.input[0])) + math.prod(shape(node, node.output[0])))


def _grouped_query_attention(node: onnx.NodeProto, shape: ShapeOf) -> int:
    """Count both products over the keys in the second output of the node."""
    return 2 * shape(node, node.output[1])[-2] * math.prod(shape(node, node.output[0]))


def _packed_product(node: onnx.NodeProto, shape: ShapeOf) -> int:
    # Several weights share a byte: only the attribute gives their number.
    return math.prod(shape(node, node.output[0])) * integer_attribute(node, "K")


def _einsum(node: onnx.NodeProto, shape: ShapeOf) -> int:
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if len(terms) > 2:
        raise NotCountedError(f"the order in which Einsum {equation!r} multiplies is not known")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        before, dots, after = term.partition("...")
        known = shape(node, name)
        # Axes of the ellipsis are aligned at their end, as in broadcasting.
        hidden = [f"...{index}" for index in range(len(known) - len(before + after) if dots else 0, 0, -1)]
        for letter, size in zip([*before, *hidden, *after], known, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


def _linear(node: onnx.NodeProto, shape: ShapeOf) -> int:
    coefficients = next((len(attribute.floats) for attribute in node.attribute if attribute.name == "coefficients"), 0)
    return math.prod(shape(node, node.input[0])[:-1]) * coefficients


_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview.training"})
_FUSED = frozenset({"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
"""Domains of the operators that ONNX Runtime's optimiser creates."""
_UNCOUNTED = frozenset({"LinearAttention", "SVMClassifier", "SVMRegressor"})

_FORMULAS: Mapping[str, Callable[[onnx.NodeProto, ShapeOf], int]] = {
    "Attention": _attention,
    "CausalConvWithState": _convolution,
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed_convolution,
    "DeformConv": _convolution,
    "Einsum": _einsum,
    "GRU": _recurrence,
    "Gemm": _gemm,
    "LSTM": _recurrence,
    "LinearClassifier": _linear,
    "LinearRegressor": _linear,
    "MatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "QLinearConv": _quantised_convolution,
    "QLinearMatMul": _matrix_product,
    "RNN": _recurrence,
}
"""By operator; other standard operators have no MACs, except `_UNCOUNTED`."""
_FUSED_FORMULAS: Mapping[str, Callable[[onnx.NodeProto, ShapeOf], int]] = {
    "Attention": _projected_attention,
    "ConvTransposeWithDynamicPads": _transposed_convolution,
    "DynamicQuantizeLSTM": _recurrence,
    "DynamicQuantizeMatMul": _matrix_product,
    "FusedConv": _convolution,
    "FusedGemm": _gemm,
    "FusedMatMul": _matrix_product,
    "FusedMatMulActivation": _matrix_product,
    "GemmFastGelu": _matrix_product,
    "GemmFloat8": _gemm,
    "GroupQueryAttention": _grouped_query_attention,
    "MatMulBnb4": _packed_product,
    "MatMulFpQ4": _matrix_product,
    "MatMulInteger16": _matrix_product,
    "MatMulIntegerToFloat": _matrix_product,
    "MatMulNBits": _packed_product,
    "MultiHeadAttention": _multi_head_attention,
    "NhwcConv": _convolution,
    "NhwcFusedConv": _convolution,
    "QAttention": _projected_attention,
    "QGemm": _gemm,
    "TransposeMatMul": _matrix_product,
}
"""Formulas of ONNX Runtime's own operators; operators named as in the standard use `_FORMULAS`."""
_WITHOUT_MACS = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax"}
    | {"BiasSplitGelu", "BitmaskBiasDropout", "BitmaskDropout", "CDist", "ComplexMul", "ComplexMulConj"}
    | {"CropAndResize", "DequantizeLinear", "DynamicTimeWarping", "EmbedLayerNormalization", "ExpandDims"}
    | {"FastGelu", "GatedRelativePositionBias", "GatherBlockQuantized", "GatherND", "Gelu", "GlobalAveragePool"}
    | {"GlobalMaxPool", "GridSample", "GroupNorm", "InstanceNormalization", "Irfft", "LayerNormalization"}
    | {"MaxPool", "MaxpoolWithMask", "MulInteger", "NGramRepeatBlock", "NhwcMaxPool", "Pad"}
    | {"QEmbedLayerNormalization", "QLinearAdd", "QLinearAveragePool", "QLinearConcat"}
    | {"QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean", "QLinearSigmoid"}
    | {"QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu", "Range", "ReduceSumInteger"}
    | {"RelativePositionBias", "RemovePadding", "ReorderInput", "ReorderOutput", "RestorePadding", "Rfft"}
    | {"RotaryEmbedding", "SampleOp", "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization"}
    | {"SkipSimplifiedLayerNormalization", "Softmax", "Transpose", "Trilu", "UnfoldTensor", "Unique", "Upsample"}
)
"""ONNX Runtime's own operators without MACs."""
