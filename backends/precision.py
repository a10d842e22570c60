"""In which arithmetic an ONNX graph computes: read off the types of its weights and off its quantised operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backends.base import Precision
from backends.errors import OptionError

if TYPE_CHECKING:
    import onnx

__all__ = ["COMPUTE_OPERATORS", "INTEGER_OPERATORS", "layer_counts", "precision_of"]

COMPUTE_OPERATORS = frozenset(
    {"Attention", "Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "GRU", "Gemm", "LSTM"}
    | {"MatMul", "MultiHeadAttention", "RNN"}
)
"""Operators whose arithmetic gives a model its precision: convolutions and matrix products."""

INTEGER_OPERATORS = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
    | {"QAttention", "QGemm", "QLinearConv", "QLinearMatMul"}
)
"""Operators that multiply 8-bit integers."""

_QUANTISED = ("QLinear", "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear")


def precision_of(graph: onnx.GraphProto, path: Path) -> Precision:
    """Return the precision of a graph: that of the weights of its convolutions and matrix products.

    A graph is ``"int8"`` when at least one of them is an integer operator, or takes both of its factors from 8-bit
    ``DequantizeLinear`` nodes.

    Parameters
    ----------
    graph : onnx.GraphProto
        The types of its initializers are needed, their data is not.
    path : Path
        Its file, for the message.

    Raises
    ------
    OptionError
        The graph mixes precisions, is quantised in its weights alone, or computes in a type that is not measured.
    """
    import onnx

    if layer_counts(graph, executed=False)[0]:
        return "int8"
    is_quantised = {node.op_type for node in graph.node if node.op_type.startswith(_QUANTISED)}
    if is_quantised:
        raise OptionError(
            f"{path} is quantised ({', '.join(sorted(is_quantised))}), but no convolution or matrix product in it "
            "multiplies 8-bit integers; such models are not measured"
        )
    names: dict[int, Precision] = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.FLOAT16: "fp16",
    }
    types = _types(graph)
    used = {
        types[name] for node in graph.node if node.op_type in COMPUTE_OPERATORS for name in node.input if name in types
    }
    floating = {*names, onnx.TensorProto.DOUBLE}
    executed = used & floating or set(types.values()) & floating
    if not executed:
        return "fp32"
    if len(executed) > 1 or not executed <= names.keys():
        words = sorted(onnx.TensorProto.DataType.Name(item).lower() for item in executed)
        raise OptionError(
            f"{path} computes in {' and '.join(words)}; only fp32, bf16 or fp16 throughout, or int8, is measured"
        )
    return names[executed.pop()]


def layer_counts(graph: onnx.GraphProto, *, executed: bool) -> tuple[int, int]:
    """Count the convolutions and matrix products on 8-bit integers, and those in floating point.

    Parameters
    ----------
    graph : onnx.GraphProto
        A file, or the graph that a runtime made of it.
    executed : bool
        True for a graph as a runtime executes it: what stands between dequantised factors there is computed in floating
        point. In a file it stands for a product of integers.
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
    """List the tensors that come out of a ``DequantizeLinear`` of 8-bit integers, also behind a change of layout."""
    import onnx

    eight_bit = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    types = _types(graph)
    executed: set[str] = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            # Without a type of its own (a tensor computed here), the zero point has it; without one of those, uint8.
            zero = node.input[2] if len(node.input) > 2 else ""
            kind = types.get(node.input[0], types.get(zero, onnx.TensorProto.UINT8))
            if kind in eight_bit:
                executed.add(node.output[0])
        elif node.op_type in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze") and node.input[0] in executed:
            executed.add(node.output[0])
    return executed
