"""Precision of an ONNX graph, from the types of its weights and its quantised operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.base import Precision

if TYPE_CHECKING:
    import onnx

__all__ = ["COMPUTE_OPERATORS", "INTEGER_OPERATORS", "floats_of", "is_quantised", "layer_counts", "precision_of"]

COMPUTE_OPERATORS = frozenset(
    {"Attention", "Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "GRU", "Gemm", "LSTM"}
    | {"MatMul", "MultiHeadAttention", "RNN"}
)
"""Operators that determine a model's precision: convolutions and matrix products."""

INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
    | {"QAttention", "QGemm", "QLinearConv", "QLinearMatMul"}
)
"""Operators that multiply 8-bit integers."""

_QUANTISED = ("QLinear", "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear")


def precision_of(graph: onnx.GraphProto) -> Precision:
    """Return the precision of a graph: that of the weights of its convolutions and matrix products.

    A graph is ``"int8"`` if at least one of them is an integer operator, or takes both its factors from 8-bit
    ``DequantizeLinear`` nodes. Anything quantised otherwise (weights alone) is computed in floating point.

    Parameters
    ----------
    graph : onnx.GraphProto
        Needs the types of its initializers, not their data.
    """
    if layer_counts(graph, executed=False)[0]:
        return "int8"
    floats = floats_of(graph)
    return "mixed" if len(floats) > 1 else next(iter(floats))


def floats_of(graph: onnx.GraphProto) -> frozenset[Precision]:
    """Return the floating-point types of a graph's convolutions and matrix products; fp32 if it has none."""
    import onnx

    kinds = onnx.TensorProto
    names: dict[int, Precision] = {
        kinds.FLOAT: "fp32",
        kinds.BFLOAT16: "bf16",
        kinds.FLOAT16: "fp16",
        kinds.DOUBLE: "fp64",
    }
    types = _types(graph)
    used = {
        types[name] for node in graph.node if node.op_type in COMPUTE_OPERATORS for name in node.input if name in types
    }
    found = used & names.keys() or set(types.values()) & names.keys()
    return frozenset(names[kind] for kind in found) or frozenset({"fp32"})


def is_quantised(graph: onnx.GraphProto) -> bool:
    """Return whether a graph quantises anything: a runtime may then use integers where the file does not."""
    return any(node.op_type.startswith(_QUANTISED) for node in graph.node)


def layer_counts(graph: onnx.GraphProto, *, executed: bool) -> tuple[int, int]:
    """Count the convolutions and matrix products on 8-bit integers, and those in floating point.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph of a file, or the one a runtime made of it.
    executed : bool
        True for a graph as a runtime executes it: a layer on dequantised factors is computed in floating point there.
        In a file, such a layer stands for a product of integers.
    """
    eight_bit = set() if executed else _dequantised_from_eight_bit(graph)
    layers = [node for node in graph.node if node.op_type in COMPUTE_OPERATORS]
    dequantised = sum(set(node.input[:2]) <= eight_bit for node in layers)
    integers = sum(node.op_type in INTEGER_OPERATORS for node in graph.node)
    return integers + dequantised, len(layers) - dequantised


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {info.name: info.type.tensor_type.elem_type for info in graph.input}
    return types | {
        node.output[0]: attribute.t.data_type
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }


def _dequantised_from_eight_bit(graph: onnx.GraphProto) -> set[str]:
    """List the tensors dequantised from 8-bit integers by ``DequantizeLinear``, also after a layout change."""
    import onnx

    eight_bit = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    types = _types(graph)
    executed: set[str] = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            # If its type is unknown (a computed tensor), take the zero point's; without a zero point, uint8.
            zero = node.input[2] if len(node.input) > 2 else ""
            kind = types.get(node.input[0], types.get(zero, onnx.TensorProto.UINT8))
            if kind in eight_bit:
                executed.add(node.output[0])
        elif node.op_type in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze") and node.input[0] in executed:
            executed.add(node.output[0])
    return executed
