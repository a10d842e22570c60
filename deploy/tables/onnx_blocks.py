"""Find residual blocks in a network's ONNX file: the nodes removed with each, and the value that replaces the sum."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from benchmarks.tables.plan_space import AxisPlace, BlockPlace, Place
from pruners.channels.residual_blocks import ResidualBlock
from pruners.decide.blocks import groups_inside
from pruners.groups import ChannelGroup

__all__ = ["block_places"]


def block_places(
    file: onnx.GraphProto, blocks: Sequence[ResidualBlock], groups: Sequence[ChannelGroup], places: Sequence[Place]
) -> tuple[BlockPlace, ...]:
    """Find residual blocks in an ONNX graph by the parameters that they read.

    A block is left out if the export renamed or merged its parameters, if its sum is an output of the network, if it
    has the name of a group, if it holds a layer both sides of which have channels that continue without it, or if it
    contains another block that is found: the table then covers no network without the block.

    Parameters
    ----------
    file : GraphProto
        Of the dense network.
    blocks : sequence of ResidualBlock
        Of its trace.
    groups : sequence of ChannelGroup
        Of its trace.
    places : sequence of Place
        Places in the file that follow the kept counts.
    """
    constants = frozenset(tensor.name for tensor in file.initializer)
    outputs = frozenset(output.name for output in file.output)
    named = frozenset(group.name for group in groups)
    found: dict[str, list[BlockPlace]] = {}
    for addition, stays, nodes in _branches(file, constants):
        read = {name for index in nodes for name in file.node[index].input if name in constants}
        for block in blocks:
            own = constants & block.tensors
            inside = groups_inside(groups, [block])
            usable = file.node[addition].output[0] not in outputs and block.name not in named
            if own and own <= read and usable and not _between_others(nodes, inside, places):
                place = BlockPlace(
                    name=block.name,
                    groups=tuple(sorted(inside)),
                    nodes=tuple(sorted([*nodes, addition])),
                    replaced=file.node[addition].output[0],
                    by=stays,
                )
                found.setdefault(block.name, []).append(place)
    traced = {block.name: block.nodes for block in blocks if block.name in found}
    # The branch of an outer block also reads the parameters of an inner one: the smallest is the block's own.
    # A layer in two blocks may be absent because of either: the outer one is left out.
    return tuple(
        min(places, key=lambda place: len(place.nodes))
        for name, places in found.items()
        if not any(nodes < traced[name] for nodes in traced.values())
    )


def _between_others(nodes: Collection[int], inside: Collection[str], places: Sequence[Place]) -> bool:
    """Return whether a weight of these nodes has two sides that follow groups, both also groups not `inside`."""
    sides: dict[tuple[int, int], list[bool]] = {}
    for place in places:
        if isinstance(place, AxisPlace) and place.node in nodes:
            own = all(name in inside for name, _ in place.size.terms)
            sides.setdefault((place.node, place.input), []).append(own)
    return any(len(own) > 1 and not any(own) for own in sides.values())


def _branches(file: onnx.GraphProto, constants: Collection[str]) -> Iterator[tuple[int, str, frozenset[int]]]:
    """Yield (addition, value that stays, nodes of the branch) of each ``x + f(x)``."""
    maker = {value: index for index, node in enumerate(file.node) for value in node.output}
    users: dict[str, set[int]] = {}
    for index, node in enumerate(file.node):
        for value in node.input:
            users.setdefault(value, set()).add(index)
    for index, node in enumerate(file.node):
        if node.op_type == "Add" and all(value and value not in constants for value in node.input):
            start, end = sorted(node.input, key=lambda value: maker.get(value, -1))
            nodes = _between(file, maker, constants, start, end)
            values = {value for each in nodes or () for value in file.node[each].output}
            if nodes and all(users.get(value, set()) <= nodes | {index} for value in values):
                yield index, start, nodes


def _between(
    file: onnx.GraphProto, maker: Mapping[str, int], constants: Collection[str], start: str, end: str
) -> frozenset[int] | None:
    """Return the nodes that compute `end` from `start` and constants; None if it depends on anything else."""
    seen: set[int] = set()
    stack, reached = [end], False
    while stack:
        value = stack.pop()
        if value == start:
            reached = True
        elif value and value not in constants:
            index = maker.get(value)
            if index is None or (index < maker.get(start, -1) and file.node[index].op_type != "Constant"):
                return None
            if index not in seen:
                seen.add(index)
                stack.extend(file.node[index].input)
    return frozenset(seen) if reached else None
