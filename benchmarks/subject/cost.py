"""MACs, parameters and bytes of a network, counted on its ONNX graph for one example.

* **MACs**: multiply-accumulates of convolutions, matrix products, recurrent layers and attention, in floating point or
  quantised; biases, activations, normalisation and pooling are not counted, as in torch-side counters (fvcore, and the
  papers).
* **Parameters**: elements of the floating-point constants that nodes use as weights, and of the quantised weights and
  biases of quantised layers (scales and zero points do not count). In a layer with weights (`Conv`, `Gemm`,
  `LayerNormalization`, ...) every constant counts; in an elementwise operation (a bias `Add`, a layer scale `Mul`)
  those with more than one element. Running statistics of `BatchNormalization` do not count; if the exporter folded it
  into a convolution, the resulting bias does. A buffer stored as such a constant counts: an ONNX file does not
  distinguish it from a parameter. A constant shared by several nodes counts once.
* **Activation bytes**: bytes of all node outputs that depend on the input: bytes written, not peak memory; writes
  inside control flow are not counted.
* **Control flow**: a `Scan` costs its body for each step, and so does a `Loop` if the file fixes its number of
  iterations; an `If` costs one branch if both cost the same.
* **Unknown**: unsupported operators and costs that depend on data. A watched run resolves the latter for its inputs
  (`benchmarks.subject.executions`). What stays open is named in ``Cost.unknown``, and the count is a lower bound.
  Counting never fails on unknowns.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backends import modelfile
from backends.errors import one_line
from backends.modelfile import external_files, fixed_shape, node_name
from benchmarks.records.measurement import Cost, NodeCost
from benchmarks.subject.executions import Executions, bodies_of, element_bytes, flattened, inner_path, node_path
from benchmarks.subject.fixed_shapes import fix_shapes
from benchmarks.subject.inputs import ModelSpecs, resolve_sizes
from benchmarks.subject.mac_formulas import NotCountedError, Shape, integer_attribute, macs_of, operator_name

if TYPE_CHECKING:
    import onnx

__all__ = ["cost", "floating_types"]

_LAYERS = frozenset(
    {"Attention", "BatchNormalization", "Conv", "ConvTranspose", "DeformConv", "Einsum", "FusedConv", "FusedGemm"}
    | {"FusedMatMul", "GRU", "Gather", "Gemm", "GroupNormalization", "InstanceNormalization", "LSTM"}
    | {"CausalConvWithState", "LayerNormalization", "MatMul", "NhwcFusedConv", "PRelu", "RMSNormalization", "RNN"}
    | {"SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
)
_WEIGHTLESS = frozenset(
    {"Clip", "Constant", "ConstantOfShape", "Dropout", "OneHot", "Pad", "Range", "Resize", "Upsample"}
)
_QUANTISED_WEIGHTS: Mapping[str, frozenset[int]] = {
    "ConvInteger": frozenset({1}),
    "DequantizeLinear": frozenset({0}),
    "DynamicQuantizeLSTM": frozenset({1, 2}),
    "DynamicQuantizeMatMul": frozenset({1}),
    "MatMulBnb4": frozenset({1}),
    "MatMulInteger": frozenset({0, 1}),
    "MatMulIntegerToFloat": frozenset({1}),
    "MatMulNBits": frozenset({1}),
    "QAttention": frozenset({1}),
    "QGemm": frozenset({3, 6}),
    "QLinearConv": frozenset({3, 8}),
    "QLinearMatMul": frozenset({0, 3}),
    "QuantizeLinear": frozenset({0}),
}
"""Inputs of quantised operators that may be weights; the others are scales and zero points."""
_PACKED = frozenset({"MatMulBnb4", "MatMulNBits"})
"""Operators in which several weights share a byte."""
_SMALL_BYTES = 4096  # constants up to this size may hold a shape
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RUNNING_STATISTICS = slice(3, 5)  # inputs of BatchNormalization: X, scale, bias, mean, var


def cost(model: Path, *, shapes: Mapping[str, Shape] | None = None, executions: Executions | None = None) -> Cost:
    """Count the cost of an ONNX file for one example.

    Parameters
    ----------
    model : Path
        The file; a free batch dimension is set to 1. If the file fixes a larger batch, the counts are divided by it.
    shapes : Mapping of str to tuple of int, optional
        Full shapes of inputs with other free dimensions; the batch in them is divided out.
    executions : Executions, optional
        What a run on inputs of these shapes executed: it resolves what depends on the data.

    Raises
    ------
    InputError
        A free dimension has no size.
    ModelLoadError
        The file is missing or broken.
    """
    file = modelfile.read(model)
    sizes = resolve_sizes(ModelSpecs.of(file), shapes=shapes)
    folder = model.resolve().parent
    files = (model, *(folder / name for name in external_files(file.proto)))
    proto, not_inferred = _with_shapes(file.proto, sizes.shapes, model)
    graph = _Graph.of(proto.graph, watched=_Watched(executions or {}))
    unknown = graph.watched.unknown
    nodes, uncounted = [], []
    for index, node in enumerate(proto.graph.node):
        before = len(unknown)
        nodes.append(_node_cost(node, node_path("", index), graph, sizes.batch))
        if len(unknown) > before:
            uncounted.append(nodes[-1].name)
    return Cost(
        macs=sum(node.macs for node in nodes),
        parameters=sum(node.parameters for node in nodes),
        weight_bytes=graph.weight_bytes,
        activation_bytes=sum(node.activation_bytes for node in nodes),
        file_bytes=sum(path.stat().st_size for path in files),
        nodes=tuple(nodes),
        uncounted=tuple(uncounted),
        unknown=tuple(dict.fromkeys([*unknown, *([not_inferred] if unknown and not_inferred else [])])),
        unsized=graph.watched.unsized,
        from_run=graph.watched.used,
    )


def _with_shapes(
    proto: onnx.ModelProto, inputs: Mapping[str, Shape], model: Path
) -> tuple[onnx.ModelProto, str | None]:
    """Return the model with functions inlined and shapes inferred, and the reason if that failed."""
    import onnx

    fix_shapes(proto, inputs)
    for tensor in proto.graph.initializer:
        _bring_in(tensor, model)
    try:
        proto = flattened(proto)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True), None
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
        OSError,
    ) as error:
        return proto, f"shapes cannot be inferred: {one_line(error)}"


def _bring_in(tensor: onnx.TensorProto, model: Path) -> None:
    """Load external data that may be a shape: shape inference does not look outside the file."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    if tensor.data_location != onnx.TensorProto.EXTERNAL or tensor.data_type not in {
        onnx.TensorProto.INT32,
        onnx.TensorProto.INT64,
    }:
        return
    length = math.prod(tensor.dims) * (element_bytes(tensor.data_type) or 0)
    if any(entry.key == "length" for entry in tensor.external_data) and length <= _SMALL_BYTES:
        load_external_data_for_tensor(tensor, str(model.resolve().parent))
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


@dataclass
class _Watched:
    """What a run executed and what stayed open, shared by a graph and all bodies in it."""

    executions: Executions
    unknown: list[str] = field(default_factory=list)
    unsized: int = 0
    used: bool = False


@dataclass
class _Graph:
    """Shapes, sizes and constants of a graph and its enclosing graphs."""

    shapes: ChainMap[str, Shape]
    bytes_each: ChainMap[str, float]
    weights: ChainMap[str, int]
    constants: ChainMap[str, onnx.TensorProto]
    constant: set[str]
    watched: _Watched
    weight_bytes: int = 0

    @classmethod
    def of(cls, graph: onnx.GraphProto, outer: _Graph | None = None, *, watched: _Watched) -> _Graph:
        """Read a graph after shape inference; a body also sees its enclosing graphs."""
        shapes: dict[str, Shape] = {}
        bytes_each: dict[str, float] = {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            if (shape := fixed_shape(info)) is not None:
                shapes[info.name] = shape
            if (each := element_bytes(info.type.tensor_type.elem_type)) is not None:
                bytes_each[info.name] = each
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        tensors |= {
            node.output[0]: attribute.t
            for node in graph.node
            for attribute in node.attribute
            if node.op_type == "Constant" and attribute.name == "value" and node.output
        }
        for name, tensor in tensors.items():
            shapes[name] = tuple(tensor.dims)
            bytes_each[name] = element_bytes(tensor.data_type) or 0.0
        types = {name: tensor.data_type for name, tensor in tensors.items()}
        constant = {tensor.name for tensor in graph.initializer} | (outer.constant if outer is not None else set())
        for node in graph.node:
            if all(name in constant for name in node.input if name) and node.op_type not in _CONTROL_FLOW:
                constant |= set(node.output)
        if outer is None:
            return cls(ChainMap(shapes), ChainMap(bytes_each), ChainMap(types), ChainMap(tensors), constant, watched)
        return cls(
            ChainMap(shapes, *outer.shapes.maps),
            ChainMap(bytes_each, *outer.bytes_each.maps),
            ChainMap(types, *outer.weights.maps),
            ChainMap(tensors, *outer.constants.maps),
            constant,
            watched,
        )

    def shape(self, _: onnx.NodeProto, name: str) -> Shape:
        if name not in self.shapes:
            raise NotCountedError(f"the shape of {name!r} is not known before it runs")
        return self.shapes[name]

    def use(self, name: str) -> int:
        """Count the elements of a weight; it counts only once."""
        next(held for held in self.weights.maps if name in held).pop(name)
        elements = math.prod(self.shapes[name])
        self.weight_bytes += math.ceil(elements * self.bytes_each[name])
        return elements

    def number(self, name: str) -> int | None:
        """Return the value of a single-element constant, None for anything else."""
        import onnx

        tensor = self.constants.get(name)
        if tensor is None or math.prod(tensor.dims) != 1 or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return int(onnx.numpy_helper.to_array(tensor).item())


def _node_cost(node: onnx.NodeProto, path: str, graph: _Graph, batch: int) -> NodeCost:
    watched = graph.watched
    ran = watched.executions.get(path, ())
    written = 0.0
    for position, name in enumerate(filter(None, node.output)):
        if name in graph.constant:
            continue
        if name in graph.shapes:
            written += math.prod(graph.shapes[name]) * graph.bytes_each.get(name, 0)
        elif ran and all(position < len(one.written_bytes) for one in ran):
            written += sum(one.times * one.written_bytes[position] for one in ran)
            watched.used = True
        else:
            watched.unsized += 1
    return NodeCost(
        name=node_name(node),
        op=node.op_type,
        macs=round(_macs(node, path, graph) / batch),
        parameters=_parameters(node, graph),
        activation_bytes=round(written / batch),
    )


def _macs(node: onnx.NodeProto, path: str, graph: _Graph) -> int:
    """Count the MACs of a node; if unknown, note why and count what is certain."""
    if node.op_type in _CONTROL_FLOW:
        return _control_flow(node, path, graph)
    if all(name in graph.constant for name in node.output):
        return 0
    try:
        try:
            return macs_of(node, graph.shape)
        except NotCountedError:
            if path not in graph.watched.executions:
                raise
            return _executed(node, path, graph)
    except NotCountedError as error:
        graph.watched.unknown.append(f"{operator_name(node)} of node {node_name(node)!r}: {error}")
        return 0


def _executed(node: onnx.NodeProto, path: str, graph: _Graph) -> int:
    """Count the MACs of a node in the run, over all its executions."""
    total = 0
    for one in graph.watched.executions[path]:
        shapes = one.shapes(node)

        def shape(of: onnx.NodeProto, name: str, shapes: Mapping[str, Shape] = shapes) -> Shape:
            return shapes[name] if name in shapes else graph.shape(of, name)

        total += one.times * macs_of(node, shape)
    graph.watched.used = True
    return total


def _parameters(node: onnx.NodeProto, graph: _Graph) -> int:
    parameters = 0
    for _, body in bodies_of(node):
        inside = _Graph.of(body, graph, watched=graph.watched)
        parameters += sum(_parameters(inner, inside) for inner in body.node)
        graph.weight_bytes += inside.weight_bytes
    for position, name in enumerate(node.input):
        if node.op_type not in _CONTROL_FLOW and _is_weight(node, position, name, graph):
            elements = graph.use(name)
            packed = node.op_type in _PACKED and position == 1
            parameters += integer_attribute(node, "K") * integer_attribute(node, "N") if packed else elements
    return parameters


def _is_weight(node: onnx.NodeProto, position: int, name: str, graph: _Graph) -> bool:
    if name not in graph.weights or node.op_type in _WEIGHTLESS:
        return False
    if node.op_type in _QUANTISED_WEIGHTS:
        return position in _QUANTISED_WEIGHTS[node.op_type]
    if graph.weights[name] not in floating_types():
        return False
    if node.op_type == "BatchNormalization" and position in range(*_RUNNING_STATISTICS.indices(5)):
        return False
    return node.op_type in _LAYERS or math.prod(graph.shapes[name]) > 1


def _control_flow(node: onnx.NodeProto, path: str, graph: _Graph) -> int:
    """Count the bodies of a node as the file fixes it, else as they ran, else what is certain."""
    bodies = [(inner_path(path, name), body) for name, body in bodies_of(node)]
    watched, before = graph.watched, len(graph.watched.unknown)
    macs = []
    for inside, body in bodies:
        inner = _Graph.of(body, graph, watched=watched)
        macs.append(sum(_macs(one, node_path(inside, index), inner) for index, one in enumerate(body.node)))
    is_open = watched.unknown[before:]
    if not any(macs) and not is_open:
        return 0
    times = 1 if node.op_type == "If" else _repetitions(node, bodies[0][1], graph)
    if times is not None and len(set(macs)) == 1 and not is_open:
        return times * macs[0]
    del watched.unknown[before:]
    if path in watched.executions:
        watched.used = True
        return sum(_ran(inside, body, graph) for inside, body in bodies)
    watched.unknown += is_open or [
        f"{operator_name(node)} of node {node_name(node)!r}: what it costs depends on the data"
    ]
    return min(macs) * (times or 0)


def _ran(inside: str, body: onnx.GraphProto, outer: _Graph) -> int:
    """Count the MACs of the nodes of a body in the run."""
    graph = _Graph.of(body, outer, watched=outer.watched)
    executions = outer.watched.executions
    paths = [node_path(inside, index) for index in range(len(body.node))]
    if not any(path in executions for path in paths):
        return 0
    total = 0
    for path, node in zip(paths, body.node, strict=True):
        if node.op_type in _CONTROL_FLOW:
            total += sum(_ran(inner_path(path, name), each, graph) for name, each in bodies_of(node))
        else:
            try:
                total += _executed(node, path, graph) if path in executions else macs_of(node, graph.shape)
            except NotCountedError as error:
                graph.watched.unknown.append(f"{operator_name(node)} of node {node_name(node)!r}: {error}")
    return total


def _repetitions(node: onnx.NodeProto, body: onnx.GraphProto, graph: _Graph) -> int | None:
    """Return how often a body runs, None if it depends on the data."""
    if node.op_type == "Scan":
        n_scanned = integer_attribute(node, "num_scan_inputs")
        axes = next((list(each.ints) for each in node.attribute if each.name == "scan_input_axes"), [0])
        # The first version of Scan has a batch axis, and sequence lengths as input 0.
        shape = graph.shapes.get(node.input[len(node.input) - n_scanned]) if n_scanned and node.input[0] else None
        return shape[axes[0]] if shape is not None and -len(shape) <= axes[0] < len(shape) else None
    if node.op_type != "Loop":
        return None
    names: list[str] = [*node.input, "", ""]
    trips, condition = names[:2]
    given, answered = (body.input[1].name, body.output[0].name) if len(body.input) > 1 else ("", "")
    inside = _Graph.of(body, graph, watched=graph.watched)
    for inner in reversed(body.node):
        if answered in inner.output and inner.op_type == "Identity":
            answered = inner.input[0]
    goes_on = answered == given or inside.number(answered) == 1
    begins = not condition or graph.number(condition) == 1
    times = graph.number(trips) if goes_on and begins else None
    return None if times is None else max(0, times)


def floating_types() -> frozenset[int]:
    """Return the floating-point element types of ONNX."""
    import onnx

    kinds = onnx.TensorProto
    return frozenset({kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16})
