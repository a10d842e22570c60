"""What a run executed: the shapes that each node read and wrote, and how often.

The output shape of ``NonZero``, the iterations of a ``Loop`` and the branch of an ``If`` depend on the data, and only
the runtime knows the shapes of custom operators: a run shows them. Nodes are identified by their place in the graph,
because names may be missing or used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.subject.mac_formulas import Shape

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Execution",
    "Executions",
    "bodies_of",
    "element_bytes",
    "flattened",
    "inner_path",
    "name_by_place",
    "node_path",
]


@dataclass(frozen=True, slots=True)
class Execution:
    """Executions of one node on inputs of the same shapes.

    Parameters
    ----------
    read, written : tuple of tuple of int
        Shapes of its inputs and outputs, without omitted ones.
    written_bytes : tuple of int
        Sizes of the outputs.
    times : int
        Number of executions.
    """

    read: tuple[Shape, ...]
    written: tuple[Shape, ...]
    written_bytes: tuple[int, ...]
    times: int

    def shapes(self, node: onnx.NodeProto) -> dict[str, Shape]:
        """Return the shapes by tensor name of the node; a side whose number of tensors differs is skipped."""
        found: dict[str, Shape] = {}
        for names, shapes in ((node.input, self.read), (node.output, self.written)):
            given = [name for name in names if name]
            if len(given) == len(shapes):
                found |= dict(zip(given, shapes, strict=True))
        return found


Executions: TypeAlias = Mapping[str, Sequence[Execution]]
"""By `node_path`."""


def node_path(body: str, index: int) -> str:
    """Return the place of node `index` of a body; the graph itself is the body ``""``."""
    return f"{body}#{index}"


def inner_path(node: str, attribute: str) -> str:
    """Return the place of the body in an attribute of a node."""
    return f"{node}.{attribute}"


def bodies_of(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield the bodies of a node with the names of their attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for index, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{index}", graph


def flattened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its local functions inlined."""
    import onnx.inliner

    return onnx.inliner.inline_local_functions(proto) if proto.functions else proto


def name_by_place(graph: onnx.GraphProto, body: str = "") -> None:
    """Rename every node of a graph, and of the bodies in it, to its place."""
    for index, node in enumerate(graph.node):
        node.name = node_path(body, index)
        for attribute, inner in bodies_of(node):
            name_by_place(inner, inner_path(node.name, attribute))


def element_bytes(element_type: int) -> float | None:
    """Return the bytes of one stored element: small types are packed, text has no fixed size (None)."""
    import onnx

    if element_type in {onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING}:
        return None
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    except KeyError:
        return None
    bits = re.fullmatch(r"u?int([24])|float([46])_\w+", kind.name)
    return int(bits[1] or bits[2]) / 8 if bits else float(kind.itemsize)
