"""What a network costs on paper, counted on its ONNX graph for one example.

* **MACs**: multiply-accumulates of convolutions, matrix products, recurrent layers and attention, in floating point or
  quantised; biases, activations, normalisation and pooling are not counted, as in torch-side counters (fvcore, and the
  papers).
* **Parameters**: elements of the floating-point constants that nodes use as weights, and of the quantised weights and
  biases of quantised layers (their scales and zero points are none). Of a layer with weights (`Conv`,
  `Gemm`, `LayerNormalization`, ...) every constant counts; of an elementwise operation (a bias `Add`, a layer scale
  `Mul`) those with more than one element. Running statistics of `BatchNormalization` do not count; where the exporter
  folded it into a convolution, the bias that this made does. A buffer stored as such a constant counts: an ONNX file
  does not tell it from a parameter. A constant that several nodes share counts once.
* **Activation bytes**: bytes of all outputs of nodes that depend on the input: what is written, not what is alive at
  once. An output whose shape depends on data counts as 0, and so does what is written inside control flow.
* **Control flow**: a `Scan` costs its body for each step, a `Loop` too where the file fixes how often it runs; an `If`
  costs one branch where both cost the same. Where the data decides what layers cost, nothing is counted: it is an
  error.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends import modelfile
from backends.errors import one_line
from backends.modelfile import external_files, subgraphs
from benchmarks.errors import CostError
from benchmarks.records.measurement import Cost, NodeCost
from benchmarks.subject.inputs import ModelSpecs, resolve_sizes
from benchmarks.subject.mac_formulas import FORMULAS, Shape, integer_attribute

if TYPE_CHECKING:
    import onnx

__all__ = ["cost"]

_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_LAYERS = frozenset(
    {"Attention", "BatchNormalization", "Conv", "ConvTranspose", "DeformConv", "Einsum", "FusedConv", "FusedGemm"}
    | {"FusedMatMul", "GRU", "Gather", "Gemm", "GroupNormalization", "InstanceNormalization", "LSTM"}
    | {"CausalConvWithState", "LayerNormalization", "MatMul", "PRelu", "RMSNormalization", "RNN"}
)
_WEIGHTLESS = frozenset(
    {"Clip", "Constant", "ConstantOfShape", "Dropout", "OneHot", "Pad", "Range", "Resize", "Upsample"}
)
_UNCOUNTED = frozenset({"LinearAttention"})
_QUANTISED_WEIGHTS: Mapping[str, frozenset[int]] = {
    "ConvInteger": frozenset({1}),
    "DequantizeLinear": frozenset({0}),
    "MatMulInteger": frozenset({0, 1}),
    "QLinearConv": frozenset({3, 8}),
    "QLinearMatMul": frozenset({0, 3}),
    "QuantizeLinear": frozenset({0}),
}
"""Inputs of quantised operators that may be weights; the others are scales and zero points."""
_SMALL_BYTES = 4096  # constants up to this size may hold a shape
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
        An operator is unknown, a needed shape depends on data, or data decides which layers run or how often.
    InputError
        A free dimension has no size.
    ModelLoadError
        The file is missing or broken.
    """
    file = modelfile.read(model)
    sizes = resolve_sizes(ModelSpecs(file.inputs, file.outputs), shapes=shapes)
    folder = model.resolve().parent
    files = (model, *(folder / name for name in external_files(file.proto)))
    proto = _with_shapes(file.proto, sizes.shapes, model)
    graph = _Graph.of(proto.graph)
    try:
        nodes = tuple(_node_cost(node, graph, sizes.batch) for node in proto.graph.node)
    except CostError as error:
        raise CostError(f"{model}: {error}") from error
    return Cost(
        macs=sum(node.macs for node in nodes),
        parameters=sum(node.parameters for node in nodes),
        weight_bytes=graph.weight_bytes,
        activation_bytes=sum(node.activation_bytes for node in nodes),
        file_bytes=sum(path.stat().st_size for path in files),
        nodes=nodes,
    )


def _with_shapes(proto: onnx.ModelProto, inputs: Mapping[str, Shape], model: Path) -> onnx.ModelProto:
    """Return every tensor its shape; functions of the file itself are taken apart first."""
    import onnx
    import onnx.inliner

    own = {(function.domain, function.name) for function in proto.functions}
    for graph in (inner for outer in (proto.graph, *proto.functions) for inner in _graphs(outer)):
        for node in graph.node:
            standard = node.domain in _STANDARD and onnx.defs.has(node.op_type, node.domain)
            if not standard and (node.domain, node.op_type) not in own and node.op_type not in FORMULAS:
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
        for tensor in proto.graph.initializer:
            _bring_in(tensor, model)
        if own:
            proto = onnx.inliner.inline_local_functions(proto)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, OSError) as error:
        raise CostError(f"{model}: shapes cannot be inferred: {one_line(error)}") from error


def _bring_in(tensor: onnx.TensorProto, model: Path) -> None:
    """Read external data that may be a shape: shape inference does not look outside the file."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    if tensor.data_location != onnx.TensorProto.EXTERNAL or tensor.data_type not in {
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }:
        return
    length = math.prod(tensor.dims) * _element_bytes(tensor.data_type)
    if any(entry.key == "length" for entry in tensor.external_data) and length <= _SMALL_BYTES:
        load_external_data_for_tensor(tensor, str(model.resolve().parent))
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def _graphs(outer: onnx.GraphProto | onnx.FunctionProto) -> list[onnx.GraphProto]:
    graphs = [outer]
    for node in outer.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                graphs += list(subgraphs(inner))
    return graphs


@dataclass
class _Graph:
    """Shapes, sizes and constants of a graph, and of the graphs around it."""

    shapes: ChainMap[str, Shape]
    element_bytes: ChainMap[str, float]
    weights: ChainMap[str, int]
    constants: ChainMap[str, onnx.TensorProto]
    constant: set[str]
    weight_bytes: int = 0

    @classmethod
    def of(cls, graph: onnx.GraphProto, outer: _Graph | None = None) -> _Graph:
        """Read a graph after shape inference; the body of a node sees what is around it."""
        import onnx

        shapes: dict[str, Shape] = {}
        element_bytes: dict[str, float] = {}
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
            if node.op_type == "Constant" and attribute.name == "value" and node.output
        }
        for name, tensor in tensors.items():
            shapes[name] = tuple(tensor.dims)
            element_bytes[name] = _element_bytes(tensor.data_type)
        types = {name: tensor.data_type for name, tensor in tensors.items()}
        constant = {tensor.name for tensor in graph.initializer} | (outer.constant if outer is not None else set())
        for node in graph.node:
            if all(name in constant for name in node.input if name) and node.op_type not in _CONTROL_FLOW:
                constant |= set(node.output)
        if outer is None:
            return cls(ChainMap(shapes), ChainMap(element_bytes), ChainMap(types), ChainMap(tensors), constant)
        return cls(
            ChainMap(shapes, *outer.shapes.maps),
            ChainMap(element_bytes, *outer.element_bytes.maps),
            ChainMap(types, *outer.weights.maps),
            ChainMap(tensors, *outer.constants.maps),
            constant,
        )

    def shape(self, node: onnx.NodeProto, name: str) -> Shape:
        if name not in self.shapes:
            raise CostError(f"node {node.name!r} ({node.op_type}): the shape of {name!r} is not known before it runs")
        return self.shapes[name]

    def use(self, name: str) -> int:
        """Count the elements of a weight, once."""
        next(held for held in self.weights.maps if name in held).pop(name)
        elements = math.prod(self.shapes[name])
        self.weight_bytes += math.ceil(elements * self.element_bytes[name])
        return elements

    def number(self, name: str) -> int | None:
        """Return the value of a constant of one element, None where it is none."""
        import onnx

        tensor = self.constants.get(name)
        if tensor is None or math.prod(tensor.dims) != 1 or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return int(onnx.numpy_helper.to_array(tensor).item())


def _node_cost(node: onnx.NodeProto, graph: _Graph, batch: int) -> NodeCost:
    macs, parameters = _macs_and_parameters(node, graph)
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


def _macs_and_parameters(node: onnx.NodeProto, graph: _Graph) -> tuple[int, int]:
    if node.op_type in _UNCOUNTED:
        raise CostError(f"the MACs of operator {node.op_type!r} (node {node.name!r}) are not counted")
    if node.op_type in _CONTROL_FLOW:
        return _control_flow(node, graph)
    macs = 0
    if node.op_type in FORMULAS and not all(name in graph.constant for name in node.output):
        try:
            macs = FORMULAS[node.op_type](node, graph.shape)
        except IndexError as error:
            raise CostError(
                f"node {node.name!r} ({node.op_type}) has too few inputs, or one of too low rank"
            ) from error
    uses = (name for position, name in enumerate(node.input) if _is_weight(node, position, name, graph))
    return macs, sum(graph.use(name) for name in uses)


def _is_weight(node: onnx.NodeProto, position: int, name: str, graph: _Graph) -> bool:
    if name not in graph.weights or node.op_type in _WEIGHTLESS:
        return False
    if node.op_type in _QUANTISED_WEIGHTS:
        return position in _QUANTISED_WEIGHTS[node.op_type]
    if graph.weights[name] not in _floating():
        return False
    if node.op_type == "BatchNormalization" and position in range(*_RUNNING_STATISTICS.indices(5)):
        return False
    return node.op_type in _LAYERS or math.prod(graph.shapes[name]) > 1


def _control_flow(node: onnx.NodeProto, graph: _Graph) -> tuple[int, int]:
    """Count the bodies of a node; the data must not decide what their layers cost."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    layer = next(
        (inner.op_type for body in bodies for one in subgraphs(body) for inner in one.node if _is_layer(inner.op_type)),
        None,
    )
    macs: list[int] = []
    parameters = 0
    for body in bodies:
        inside = _Graph.of(body, graph)
        counted = [_macs_and_parameters(inner, inside) for inner in body.node]
        macs.append(sum(each for each, _ in counted))
        parameters += sum(each for _, each in counted)
        graph.weight_bytes += inside.weight_bytes
    if layer is None or not any(macs):
        return 0, parameters
    times = 1 if node.op_type == "If" else _repetitions(node, bodies[0], graph)
    if times is None or len(set(macs)) > 1:
        raise CostError(f"node {node.name!r} ({node.op_type}) holds {layer}: what it costs depends on the data")
    return times * macs[0], parameters


def _is_layer(operator: str) -> bool:
    return operator in FORMULAS or operator in _UNCOUNTED


def _repetitions(node: onnx.NodeProto, body: onnx.GraphProto, graph: _Graph) -> int | None:
    """Return how often a body runs, None where the data decides."""
    if node.op_type == "Scan":
        n_scanned = integer_attribute(node, "num_scan_inputs")
        axes = next((list(each.ints) for each in node.attribute if each.name == "scan_input_axes"), [0])
        # The first version of Scan has a batch axis, and lengths of its own in input 0.
        shape = graph.shapes.get(node.input[len(node.input) - n_scanned]) if n_scanned and node.input[0] else None
        return shape[axes[0]] if shape is not None and -len(shape) <= axes[0] < len(shape) else None
    if node.op_type != "Loop":
        return None
    names: list[str] = [*node.input, "", ""]
    trips, condition = names[:2]
    given, answered = (body.input[1].name, body.output[0].name) if len(body.input) > 1 else ("", "")
    inside = _Graph.of(body, graph)
    for inner in reversed(body.node):
        if answered in inner.output and inner.op_type == "Identity":
            answered = inner.input[0]
    goes_on = answered == given or inside.number(answered) == 1
    begins = not condition or graph.number(condition) == 1
    times = graph.number(trips) if goes_on and begins else None
    return None if times is None else max(0, times)


def _floating() -> frozenset[int]:
    import onnx

    kinds = onnx.TensorProto
    return frozenset({kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16})


def _element_bytes(element_type: int) -> float:
    """Return the bytes of one element as it is stored: small types are packed, text has no size of its own."""
    import onnx

    if element_type == onnx.TensorProto.STRING:
        return 0.0
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    except KeyError as error:
        raise CostError(f"element type {element_type} is not known") from error
    bits = re.fullmatch(r"u?int([24])|float([46])_\w+", kind.name)
    return int(bits[1] or bits[2]) / 8 if bits else float(kind.itemsize)
