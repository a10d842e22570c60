"""`Narrower`: makes the ONNX file of a network with other widths by slicing the constants of the dense one.

Speed depends on how many channels stay, not on which: the first ones are kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from backends.base import Array
from benchmarks.errors import RecordError
from benchmarks.subject.subject import content_sha256
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, BlockPlace, Place, PlanSpace, ValuePlace

__all__ = ["Narrower", "drop_idle_relus", "require_fits", "require_made_for"]


def require_made_for(dense: Path, space: PlanSpace) -> None:
    """Check that a plan space was made for this file.

    Raises
    ------
    RecordError
        It was made for another one.
    ModelLoadError
        The file is missing or broken.
    """
    if content_sha256(dense) != space.model_sha256:
        raise RecordError(f"the plan space was made for another file than {dense}: make it again from this network")


def require_fits(dense: Path, graph: onnx.GraphProto, space: PlanSpace) -> None:
    """Check that the graph of the dense file has every place of its plan space.

    Raises
    ------
    RecordError
        It lacks one: the plan space is damaged.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for place in space.places:
        if place.node >= len(graph.node) or not _fits(place, graph.node[place.node], shapes):
            raise RecordError(f"the plan space is damaged: {dense} has no such {place.kind} at node {place.node}")
    others = [index for block in space.blocks for index in block.nodes] + [layer.node for layer in space.whole_layers]
    if any(index >= len(graph.node) for index in others):
        raise RecordError(f"the plan space is damaged: {dense} has only {len(graph.node)} nodes")


def _fits(place: Place, node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if isinstance(place, AttributePlace):
        integer = onnx.AttributeProto.INT
        lengths = {each.name: 1 if each.type == integer else len(each.ints) for each in node.attribute}
        return place.index < lengths.get(place.name, 0)
    if place.input >= len(node.input) or (shape := shapes.get(node.input[place.input])) is None:
        return False
    return place.axis < len(shape) if isinstance(place, AxisPlace) else place.index < prod(shape)


class Narrower:
    """Makes the ONNX file of one network for any kept counts.

    Parameters
    ----------
    dense : Path
        ONNX file of the whole network.
    space : PlanSpace
        Which parts of it depend on the counts.

    Raises
    ------
    RecordError
        The space was made for another file, or does not fit it.
    ModelLoadError
        The file is missing or broken.
    """

    def __init__(self, dense: Path, space: PlanSpace) -> None:
        require_made_for(dense, space)
        self.space = space
        self._graph = onnx.load(dense)
        require_fits(dense, self._graph.graph, space)
        self._constants = {t.name: numpy_helper.to_array(t) for t in self._graph.graph.initializer}
        del self._graph.graph.initializer[:]
        del self._graph.graph.value_info[:]
        self._cuts: dict[tuple[int, int], list[AxisPlace | ValuePlace]] = defaultdict(list)
        self._attributes = [place for place in space.places if isinstance(place, AttributePlace)]
        for place in space.places:
            if not isinstance(place, AttributePlace):
                self._cuts[place.node, place.input].append(place)

    def model(self, counts: Mapping[str, int]) -> onnx.ModelProto:
        """Return the network with `counts` kept units, without blocks of count 0; groups not named are whole.

        Raises
        ------
        SettingError
            A group is unknown, or its count is out of range.
        """
        counts = self.space.complete(counts)
        model = onnx.ModelProto()
        model.CopyFrom(self._graph)
        nodes = model.graph.node
        absent = [block for block in self.space.blocks if not counts[block.name]]
        gone = {index for block in absent for index in block.nodes}
        for place in self._attributes:
            if place.node not in gone:
                _set_attribute(nodes[place.node], place, place.size(counts))
        names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        made: dict[str, Array] = {}
        for index, node in enumerate(nodes):
            if index in gone:
                continue
            for slot, name in enumerate(node.input):
                if name in self._constants:
                    array = _cut(self._constants[name], self._cuts.get((index, slot), ()), counts)
                    # A constant read by several nodes may need a different cut for each.
                    values = array.tobytes() if array.dtype.kind in "iu" else b""
                    key = (name, array.shape, values)
                    if key not in names:
                        names[key] = name if name not in made else f"{name}#{len(names)}"
                        made[names[key]] = array
                    node.input[slot] = names[key]
        outputs = {output.name for output in model.graph.output}
        for name in outputs & self._constants.keys():
            made.setdefault(name, self._constants[name])
        if absent:
            _leave_out(model.graph, absent, gone)
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in made.items())
        return model


def _leave_out(graph: onnx.GraphProto, blocks: Sequence[BlockPlace], nodes: Collection[int]) -> None:
    """Drop the nodes, feed readers of a block's sum with its skip input, and drop ReLUs made redundant."""
    instead = {block.replaced: block.by for block in blocks}
    for index in sorted(nodes, reverse=True):
        del graph.node[index]
    _read(graph, instead)
    drop_idle_relus(graph)


def drop_idle_relus(graph: onnx.GraphProto) -> None:
    """Drop each ReLU whose input comes from another ReLU, also through a max-pool; changes the graph."""
    outputs = {output.name for output in graph.output}
    positive: set[str] = set()
    instead: dict[str, str] = {}
    for node in graph.node:
        idle = node.input and instead.get(node.input[0], node.input[0]) in positive
        if node.op_type == "Relu" and idle and node.output[0] not in outputs:
            instead[node.output[0]] = instead.get(node.input[0], node.input[0])
        elif node.op_type == "Relu" or (node.op_type == "MaxPool" and idle):
            positive.add(node.output[0])
    for index in reversed([i for i, node in enumerate(graph.node) if node.output[0] in instead]):
        del graph.node[index]
    _read(graph, instead)


def _read(graph: onnx.GraphProto, instead: Mapping[str, str]) -> None:
    for node in graph.node:
        for slot in range(len(node.input)):
            while node.input[slot] in instead:
                node.input[slot] = instead[node.input[slot]]


def _cut(array: Array, places: tuple[()] | list[AxisPlace | ValuePlace], counts: Mapping[str, int]) -> Array:
    if not places:
        return array
    window = [slice(None)] * array.ndim
    for place in places:
        if isinstance(place, AxisPlace):
            window[place.axis] = slice(place.size(counts))
    cut = np.ascontiguousarray(array[tuple(window)]) if array.ndim else array
    values = [place for place in places if isinstance(place, ValuePlace)]
    if values:
        cut = cut.copy()
        for place in values:
            cut.reshape(-1)[place.index] = place.size(counts)
    return cut


def _set_attribute(node: onnx.NodeProto, place: AttributePlace, value: int) -> None:
    attribute = next(a for a in node.attribute if a.name == place.name)
    if attribute.type == onnx.AttributeProto.INT:
        attribute.i = value
    else:
        attribute.ints[place.index] = value
