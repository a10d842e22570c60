"""Bytes that the nodes of an ONNX graph read and write in one call, and the channels of their weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends import modelfile
from backends.modelfile import fixed_shape, node_name
from benchmarks.subject.executions import element_bytes
from benchmarks.subject.fixed_shapes import fix_shapes

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphNode", "ModelGraph", "model_graph"]

Shape = tuple[int, ...]

_VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
"""Operators that move no data if the runtime keeps the memory and only changes the shape."""
_PICKING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
"""Operators that read only as much of their first input as they write."""
_FILTERS: Mapping[str, int] = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
"""Which input holds the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """One ONNX node.

    Parameters
    ----------
    name : str
        Its name, or that of its first output if it has none.
    op : str
        Operator.
    reads, writes : tuple of str
        Input and output tensors.
    channels : tuple of (int, int) or None
        Input and output channels of a layer with weights; None for everything else.
    groups : int
        Groups of a convolution; 1 for everything else.
    window : tuple of int
        Kernel, strides and output size of a convolution or pooling, without channels; empty if unknown.
    """

    name: str
    op: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    channels: tuple[int, int] | None = None
    groups: int = 1
    window: tuple[Shape, ...] = ()

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved separately."""
        return self.groups > 1 and self.channels is not None and self.groups == self.channels[0]


class ModelGraph:
    """The nodes of a model and the sizes of its tensors.

    Parameters
    ----------
    nodes : collection of GraphNode
        In the order of the file.
    tensor_bytes : Mapping of str to int
        Bytes of each tensor in one call, constants included; tensors of unknown size are left out.
    outputs : collection of str
        Outputs of the model.
    """

    def __init__(
        self, nodes: Collection[GraphNode], tensor_bytes: Mapping[str, int], outputs: Collection[str] = ()
    ) -> None:
        self.nodes = tuple(nodes)
        self._bytes = dict(tensor_bytes)
        self._outputs = frozenset(outputs)
        self._readers: dict[str, list[int]] = defaultdict(list)
        for place, node in enumerate(self.nodes):
            for tensor in node.reads:
                self._readers[tensor].append(place)

    def moved_bytes(self, places: Collection[int]) -> int | None:
        """Count the bytes read and written when these nodes run as one layer.

        Each tensor from outside, weights included, is read once; each tensor needed outside is written once. Tensors
        that stay between the nodes are not counted, nor are mere changes of shape.

        Parameters
        ----------
        places : collection of int
            Positions in `nodes`.

        Returns
        -------
        int or None
            Bytes; None if the size of a tensor is unknown before it runs.
        """
        inside = [self.nodes[place] for place in sorted(places)]
        if all(node.op in _VIEWS for node in inside):
            return 0
        made = {tensor for node in inside for tensor in node.writes}
        moved = [tensor for tensor in made if self._leaves(tensor, places)]
        read: set[str] = set()
        for node in inside:
            picks = node.op in _PICKING and node.reads[0] not in made
            if picks:
                moved += node.writes
            read |= set(node.reads[1:] if picks else node.reads) - made
        moved += read
        if any(tensor not in self._bytes for tensor in moved):
            return None
        return sum(self._bytes[tensor] for tensor in moved)

    def _leaves(self, tensor: str, places: Collection[int]) -> bool:
        return tensor in self._outputs or any(reader not in places for reader in self._readers.get(tensor, ()))


def model_graph(model: Path, shapes: Mapping[str, Shape]) -> ModelGraph:
    """Read the graph of an ONNX file and infer the sizes of its tensors; weights are not read.

    Parameters
    ----------
    model : Path
        The file.
    shapes : Mapping of str to tuple of int
        Full shape of each input, as in the profiled call.

    Raises
    ------
    ModelLoadError
        The file is missing or broken.
    """
    import onnx

    proto = modelfile.read(model).proto
    fix_shapes(proto, shapes)
    graph = proto.graph
    # If inference fails, the shapes stated in the file remain.
    with suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    kinds: dict[str, int] = {}
    known: dict[str, Shape] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if (shape := fixed_shape(info)) is not None:
            known[info.name], kinds[info.name] = shape, info.type.tensor_type.elem_type
    for weight in graph.initializer:
        known[weight.name], kinds[weight.name] = tuple(weight.dims), weight.data_type
    sizes = {
        name: math.ceil(math.prod(shape) * each)
        for name, shape in known.items()
        if (each := element_bytes(kinds[name])) is not None
    }
    return ModelGraph(
        [_graph_node(node, known) for node in graph.node], sizes, [output.name for output in graph.output]
    )


def _graph_node(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> GraphNode:
    return GraphNode(
        name=node_name(node),
        op=node.op_type,
        reads=tuple(name for name in node.input if name),
        writes=tuple(name for name in node.output if name),
        channels=_channels(node, shapes),
        groups=next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1),
        window=_window(node, shapes),
    )


def _window(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
    lists = {attribute.name: tuple(attribute.ints) for attribute in node.attribute}
    position = _FILTERS.get(node.op_type)
    weights = () if position is None else shapes.get(node.input[position], ())
    kernel = lists.get("kernel_shape") or (weights[2:] if "Conv" in node.op_type else ())
    if not kernel:
        return ()
    return kernel, lists.get("strides") or (1,) * len(kernel), shapes.get(node.output[0], ())[2:]


def _channels(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> tuple[int, int] | None:
    position = _FILTERS.get(node.op_type)
    if position is None or len(node.input) <= position:
        return None
    shape = shapes.get(node.input[position], ())
    if len(shape) < 2:
        return None
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    groups = flags.get("group", 1)
    if node.op_type == "ConvTranspose":
        return shape[0], shape[1] * groups
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv"}:
        return shape[1] * groups, shape[0]
    return (shape[-1], shape[-2]) if flags.get("transB") else (shape[-2], shape[-1])
