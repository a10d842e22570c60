"""Stages of a network: groups whose channels are produced at the same resolution and width."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from pruners.channels.propagation import hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import fx

    from pruners.graph import Graph
    from pruners.groups import ChannelGroup

__all__ = ["Stage", "stages_of"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the groups of a stage have in common.

    Parameters
    ----------
    positions : int
        Of one example's feature map, at the layer that first produces the channels: 1024 for a map of 32 x 32, the
        number of tokens in a transformer, 1 after a global pool.
    width : int
        Channels that this layer produces for the group before pruning.
    joined : bool
        Whether several layers produce the channels together (they are added, as in the residual stream, or multiplied).
        Such groups are not layers of a single stage: pruning them narrows every block at once.
    sizes : tuple of int
        Height and width of the map, or its other axes; for display, not compared.
    """

    positions: int
    width: int
    joined: bool
    sizes: tuple[int, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        where = "x".join(map(str, self.sizes)) or "1"
        return f"{self.width} wide at {where}{', joined' if self.joined else ''}"


def stages_of(graph: Graph) -> dict[str, Stage]:
    """Return the stage of every prunable group, in the order in which the network makes them.

    A group belongs to the stage of the first layer that produces its channels. Grouped and depthwise convolutions
    produce none: they carry those of their input. A group whose layers are not found in the graph (their weights have
    another name there, because they are tied) has no stage and is not listed.
    """
    makers = _Makers(graph)
    stages = {}
    for group in graph.groups:
        if group.prunable and group.n_units > 1 and (stage := makers.stage(group)) is not None:
            stages[group.name] = stage
    return stages


class _Makers:
    """The nodes of a graph that turn a parameter and data into a feature map."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = list(graph.module.graph.nodes)
        self._order = {node: position for position, node in enumerate(self._nodes)}
        self._fetched = {str(node.target): node for node in self._nodes if node.op == "get_attr"}
        self._data: set[fx.Node] = set()
        for node in self._nodes:
            if node.op == "placeholder" or any(item in self._data for item in node.all_input_nodes):
                self._data.add(node)

    def stage(self, group: ChannelGroup) -> Stage | None:
        nodes: dict[fx.Node, int] = {}
        for member in group.members:
            fetched = self._fetched.get(member.path) if member.produces else None
            for node in () if fetched is None else self._first_data(fetched):
                nodes.setdefault(node, sum(map(len, member.indices)))
        makers = sorted((node for node in nodes if not _carries(node)), key=self._order.__getitem__)
        if not makers:
            return None
        shape = [hint(size) for size in makers[0].meta["val"].shape]
        axis = 1 if _is_convolution(makers[0]) else len(shape) - 1
        return Stage(
            positions=prod(shape) // (shape[axis] * self._batch()),
            width=nodes[makers[0]],
            joined=len(makers) > 1,
            sizes=tuple(size for position, size in enumerate(shape) if position not in (0, axis)),
        )

    def _first_data(self, fetched: fx.Node) -> Iterator[fx.Node]:
        """Follow a parameter, also a parametrised one, to where it first meets data."""
        for user in fetched.users:
            if user in self._data:
                yield user
            else:
                yield from self._first_data(user)

    def _batch(self) -> int:
        first = next(node for node in self._nodes if node.op == "placeholder")
        return hint(first.meta["val"].shape[0])


def _is_convolution(node: fx.Node) -> bool:
    return str(node.target).startswith("aten.conv")


def _carries(node: fx.Node) -> bool:
    """Return whether a node is a grouped convolution: the seventh argument of ATen's convolutions is `groups`."""
    groups: Any = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    return _is_convolution(node) and groups != 1
