"""What a network costs on paper, counted on its ONNX graph for one example.

* **MACs**: multiply-accumulates of convolutions, matrix products, recurrent layers and attention; biases, activations,
  normalisation and pooling are not counted, as in torch-side counters (fvcore, and the papers).
* **Parameters**: elements of the floating-point constants that nodes use as weights. Of a layer with weights (`Conv`,
  `Gemm`, `LayerNormalization`, ...) every constant counts; of an elementwise operation (a bias `Add`, a layer scale
  `Mul`) those with more than one element. Running statistics of `BatchNormalization` do not count; where the exporter
  folded it into a convolution, the bias that this made does. A buffer stored as such a constant counts: an ONNX file
  does not tell it from a parameter. A constant that several nodes share counts once.
* **Activation bytes**: bytes of all outputs of nodes that depend on the input: what is written, not what is alive at
  once. An output whose shape depends on data counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends import modelfile
from backends.errors import one_line
from benchmarks.errors import CostError
from benchmarks.inputs import ModelSpecs, resolve_sizes
from benchmarks.records import Cost, NodeCost
from benchmarks.subject import external_files, subgraphs

if TYPE_CHECKING:
    import onnx

__all__ = ["cost"]

Shape = tuple[int, ...]

_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_LAYERS = frozenset(
    {"Attention", "BatchNormalization", "Conv", "ConvTranspose", "DeformConv", "Einsum", "FusedConv", "FusedGemm"}
    | {"FusedMatMul", "GRU", "Gather", "Gemm", "GroupNormalization", "InstanceNormalization", "LSTM"}
    | {"LayerNormalization", "MatMul", "PRelu", "RMSNormalization", "RNN"}
)
_WEIGHTLESS = frozenset(
    {"Clip", "Constant", "ConstantOfShape", "Dropout", "OneHot", "Pad", "Range", "Resize", "Upsample"}
)
_UNCOUNTED = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "LinearAttention"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RUNNING_STATISTICS = slice(3, 5)  # inputs of BatchNormalization: X, scale, bias, mean, var


def cost(model: Path, *, shapes: Mapping[str, Shape] | None = None) -> Cost:
    """Count what an ONNX file costs for one example.

    Parameters
    ----------
    model : Path
        The file; a free batch dimension is set to 1. Where the file has a larger batch fixed, the counts are divided by
        it.
    shapes : Mapping of str to tuple of int, optional
        Whole shapes of inputs that have other free dimensions; the batch in them is divided out.

    Raises
    ------
    CostError
        An operator is unknown, a needed shape depends on data, or layers are inside control flow.
    InputError
        A free dimension has no size.
    ModelLoadError
        The file is missing or broken.
    """
    file = modelfile.read(model)
    sizes = resolve_sizes(ModelSpecs(file.inputs, file.outputs), shapes=shapes)
    proto = _with_shapes(file.proto, sizes.shapes, model)
    graph = _Graph.of(proto)
    nodes = tuple(_node_cost(node, graph, sizes.batch, model) for node in proto.graph.node)
    return Cost(
        macs=sum(node.macs for node in nodes),
        parameters=sum(node.parameters for node in nodes),
        weight_bytes=graph.weight_bytes,
        activation_bytes=sum(node.activation_bytes for node in nodes),
        file_bytes=sum((model.parent / name).stat().st_size for name in (model.name, *external_files(file.proto))),
        nodes=nodes,
    )


def _with_shapes(proto: onnx.ModelProto, inputs: Mapping[str, Shape], model: Path) -> onnx.ModelProto:
    """Give every tensor its shape; functions of the file itself are taken apart first."""
    import onnx
    import onnx.inliner

    own = {(function.domain, function.name) for function in proto.functions}
    for graph in (inner for outer in (proto.graph, *proto.functions) for inner in _graphs(outer)):
        for node in graph.node:
            standard = node.domain in _STANDARD and onnx.defs.has(node.op_type, node.domain)
            if not standard and (node.domain, node.op_type) not in own and node.op_type not in _FORMULAS:
                name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                raise CostError(f"{model}: unknown operator {name!r} (node {node.name!r}); its cost is not known")
    known: dict[str, int] = {}
    for info in proto.graph.input:
        for dimension, size in zip(info.type.tensor_type.shape.dim, inputs.get(info.name, ()), strict=False):
            if dimension.dim_param:
                known[dimension.dim_param] = size
            dimension.dim_value = size
    for info in (*proto.graph.value_info, *proto.graph.output):
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.dim_param in known:
                dimension.dim_value = known[dimension.dim_param]
            elif not dimension.HasField("dim_value"):
                dimension.Clear()
    try:
        if own:
            proto = onnx.inliner.inline_local_functions(proto)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise CostError(f"{model}: shapes cannot be inferred: {one_line(error)}") from error


def _graphs(outer: onnx.GraphProto | onnx.FunctionProto) -> list[onnx.GraphProto]:
    found = [outer]
    for node in outer.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found += list(subgraphs(inner))
    return found


@dataclass
class _Graph:
    """Shapes, sizes and constants of a graph."""

    shapes: dict[str, Shape]
    element_bytes: dict[str, float]
    weights: dict[str, Shape]
    constant: set[str]
    weight_bytes: int = 0

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> _Graph:
        import onnx

        graph = proto.graph
        shapes: dict[str, Shape] = {}
        element_bytes: dict[str, float] = {}
        weights: dict[str, Shape] = {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            tensor = info.type.tensor_type
            if tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
                shapes[info.name] = tuple(dimension.dim_value for dimension in tensor.shape.dim)
            if tensor.elem_type not in {onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING}:
                element_bytes[info.name] = _element_bytes(tensor.elem_type)
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        tensors |= {
            node.output[0]: attribute.t
            for node in graph.node
            for attribute in node.attribute
            if node.op_type == "Constant" and attribute.name == "value"
        }
        for name, tensor in tensors.items():
            shapes[name] = tuple(tensor.dims)
            if tensor.data_type in _floating():
                weights[name] = tuple(tensor.dims)
                element_bytes[name] = _element_bytes(tensor.data_type)
        constant = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if all(name in constant for name in node.input if name) and node.op_type not in _CONTROL_FLOW:
                constant |= set(node.output)
        return cls(shapes, element_bytes, weights, constant)

    def shape(self, node: onnx.NodeProto, name: str) -> Shape:
        if name not in self.shapes:
            raise CostError(f"node {node.name!r} ({node.op_type}): the shape of {name!r} is not known before it runs")
        return self.shapes[name]


def _node_cost(node: onnx.NodeProto, graph: _Graph, batch: int, model: Path) -> NodeCost:
    if node.op_type in _UNCOUNTED:
        raise CostError(f"{model}: the MACs of operator {node.op_type!r} (node {node.name!r}) are not counted")
    if node.op_type in _CONTROL_FLOW and (layer := _layer_inside(node)):
        raise CostError(
            f"{model}: node {node.name!r} ({node.op_type}) holds {layer}: what it costs depends on the data"
        )
    macs = 0
    if node.op_type in _FORMULAS and not all(name in graph.constant for name in node.output):
        try:
            macs = _FORMULAS[node.op_type](node, graph)
        except CostError as error:
            raise CostError(f"{model}: {error}") from error
    parameters = 0
    for position, name in enumerate(node.input):
        if not _is_weight(node, position, name, graph):
            continue
        elements = math.prod(graph.weights.pop(name))
        parameters += elements
        graph.weight_bytes += math.ceil(elements * graph.element_bytes[name])
    written = 0.0
    for name in node.output:
        if name in graph.shapes and name not in graph.constant:
            written += math.prod(graph.shapes[name]) * graph.element_bytes.get(name, 0)
    return NodeCost(
        name=node.name or (node.output[0] if node.output else ""),
        op=node.op_type,
        macs=round(macs / batch),
        parameters=parameters,
        activation_bytes=round(written / batch),
    )


def _is_weight(node: onnx.NodeProto, position: int, name: str, graph: _Graph) -> bool:
    if name not in graph.weights or node.op_type in _WEIGHTLESS:
        return False
    if node.op_type == "BatchNormalization" and position in range(*_RUNNING_STATISTICS.indices(5)):
        return False
    return node.op_type in _LAYERS or math.prod(graph.weights[name]) > 1


def _layer_inside(node: onnx.NodeProto) -> str | None:
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for inner in (each for one in subgraphs(graph) for each in one.node):
                if inner.op_type in _FORMULAS or inner.op_type in _UNCOUNTED:
                    return str(inner.op_type)
    return None


def _convolution(node: onnx.NodeProto, graph: _Graph) -> int:
    # Each output element sums over the weights of one filter, whose first axis counts the filters.
    return math.prod(graph.shape(node, node.output[0])) * math.prod(graph.shape(node, node.input[1])[1:])


def _transposed_convolution(node: onnx.NodeProto, graph: _Graph) -> int:
    # Each input element meets the weights of its channel, whose first axis counts the input channels.
    return math.prod(graph.shape(node, node.input[0])) * math.prod(graph.shape(node, node.input[1])[1:])


def _gemm(node: onnx.NodeProto, graph: _Graph) -> int:
    left = graph.shape(node, node.input[0])
    inner = left[0] if _attribute(node, "transA") else left[1]
    return math.prod(graph.shape(node, node.output[0])) * inner


def _matrix_product(node: onnx.NodeProto, graph: _Graph) -> int:
    left = graph.shape(node, node.input[0])
    inner = left[-2] if _attribute(node, "transA") and len(left) > 1 else left[-1]
    return math.prod(graph.shape(node, node.output[0])) * inner


def _recurrence(node: onnx.NodeProto, graph: _Graph) -> int:
    steps = math.prod(graph.shape(node, node.input[0])[:2])
    return steps * sum(math.prod(graph.shape(node, name)) for name in node.input[1:3])


def _attention(node: onnx.NodeProto, graph: _Graph) -> int:
    """Count query times key, and their product times value: inputs Q, K, V, mask, past_key."""
    keys = graph.shape(node, node.input[1])[-2]
    if len(node.input) > 4 and node.input[4]:
        keys += graph.shape(node, node.input[4])[-2]
    return keys * (math.prod(graph.shape(node, node.input[0])) + math.prod(graph.shape(node, node.output[0])))


def _einsum(node: onnx.NodeProto, graph: _Graph) -> int:
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) == 1:
        return 0
    if "." in equation or len(terms) > 2:
        raise CostError(f"node {node.name!r}: the MACs of Einsum {equation!r} are not counted")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        for letter, size in zip(term, graph.shape(node, name), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


_FORMULAS: Mapping[str, Callable[[onnx.NodeProto, _Graph], int]] = {
    "Attention": _attention,
    "Conv": _convolution,
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
    "RNN": _recurrence,
}


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _floating() -> Sequence[int]:
    import onnx

    return (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    )


def _element_bytes(element_type: int) -> float:
    import onnx

    return float(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)
