"""Find the tensors to multiply in order to scale a unit or a residual block.

A unit is scaled where it is read, in the columns of every layer that sums over it. That equals a factor on its feature
map, whatever activation or norm precedes it, even if several layers produce or read the map. A block is scaled at its
end, in the last affine tensors of the branch, followed only by operations that a factor of zero or more passes through.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pruners.channels.labels import Value
from pruners.channels.propagation import operator_name

if TYPE_CHECKING:
    from pruners.channels.residual_blocks import ResidualBlock
    from pruners.graph import Graph

__all__ = ["ScaleSite", "block_sites", "unit_sites"]

_INPUT_AXIS = {
    "linear": 1,
    "conv1d": 1,
    "conv2d": 1,
    "conv3d": 1,
    "conv_transpose1d": 0,
    "conv_transpose2d": 0,
    "conv_transpose3d": 0,
    "matmul": -2,
    "mm": -2,
    "addmm": -2,
}
"""Axis of the weight that is summed over."""

_SELECTS = {"chunk", "narrow", "select", "slice", "split", "split_with_sizes", "unbind", "unsafe_chunk", "unsafe_split"}
"""Operations that take part of their input and leave the rest unread."""

_WEIGHT = {"batch_norm": 1, "group_norm": 2, "layer_norm": 2, "rms_norm": 2} | dict.fromkeys(
    ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1
)
"""Position of the weight among the arguments; the bias comes next."""

_PASSES = {
    "_adaptive_avg_pool2d", "_to_copy", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool2d", "alias", "avg_pool1d", "avg_pool2d", "avg_pool3d", "clone", "contiguous", "dropout",
    "expand", "feature_dropout", "flatten", "leaky_relu", "max_pool1d", "max_pool2d", "max_pool3d", "mean", "permute",
    "pixel_shuffle", "prelu", "relu", "reshape", "roll", "slice", "squeeze", "sum", "to", "transpose", "unflatten",
    "unsqueeze", "upsample_bilinear2d", "upsample_nearest2d", "view",
}  # fmt: skip
"""Operations with ``f(scale * x) = scale * f(x)`` for a scale of zero or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSite:
    """A parameter, or slices of it, that a scale multiplies.

    Parameters
    ----------
    path : str
        Name of the parameter.
    axis : int
        Axis along which units have positions.
    indices : tuple of tuple of int
        ``indices[unit]`` are the positions of a unit; empty if one scale multiplies the whole parameter.
    """

    path: str
    axis: int = 0
    indices: tuple[tuple[int, ...], ...] = ()


def unit_sites(graph: Graph, groups: Sequence[str]) -> tuple[dict[str, tuple[ScaleSite, ...]], dict[str, str]]:
    """Find, for each group, the columns of all layers that read its units.

    Returns
    -------
    tuple of (dict, dict)
        Group name -> its sites; and group name -> reason in one line, for groups that cannot be scaled.
    """
    sites_of: dict[str, tuple[ScaleSite, ...]] = {}
    reasons: dict[str, str] = {}
    number_of = {group.name: number for number, group in enumerate(graph.groups)}
    nodes = [(node, _held(graph, node)) for node in graph.module.graph.nodes]
    held = dict(nodes)
    for name in groups:
        readers: dict[str, set[fx.Node]] = {}
        sites: dict[str, ScaleSite] = {}
        for node, carried in nodes:
            reads = [item for item in node.all_input_nodes if item.op != "get_attr" and number_of[name] in held[item]]
            if not reads or node.op == "output":
                continue
            site = _column_site(graph, node, reads, name)
            if site is not None:
                sites[site.path] = site
                readers.setdefault(site.path, set()).add(node)
            elif number_of[name] not in carried and not _leaves_unread(node):
                reasons[name] = f"{node.name} reads its channels by no weight of its own"
                break
        other = next((path for path, own in readers.items() if _users(graph, path) - own), None)
        if name not in reasons and (not sites or other is not None):
            reasons[name] = "no layer reads it" if other is None else f"{other} is used by something else as well"
        if name not in reasons:
            sites_of[name] = tuple(sites.values())
    return sites_of, reasons


def block_sites(
    graph: Graph, blocks: Sequence[ResidualBlock]
) -> tuple[dict[str, tuple[ScaleSite, ...]], dict[str, str]]:
    """Find, for each residual block, the last affine tensors of its branch.

    Returns
    -------
    tuple of (dict, dict)
        Block name -> its sites; and block name -> reason in one line, for blocks that cannot be scaled.
    """
    sites_of: dict[str, tuple[ScaleSite, ...]] = {}
    reasons: dict[str, str] = {}
    nodes = {node.name: node for node in graph.module.graph.nodes}
    for block in blocks:
        addition = nodes[block.addition]
        ends = [node for node in addition.all_input_nodes if node.name != block.stays]
        walk = _BranchEnd(graph, block)
        if len(ends) == 1 and walk.follow(ends[0], addition):
            sites_of[block.name] = tuple(ScaleSite(path=path) for path in walk.paths)
        else:
            stopped = walk.stopped or block.addition
            reasons[block.name] = f"at the end of its branch {stopped} cannot be scaled by tensors of its own"
    return sites_of, reasons


def _held(graph: Graph, node: fx.Node) -> frozenset[int]:
    """Return the groups whose channels are in the value of a node."""
    values = [item for item in _flat(graph.grouping.walk.values.get(node.name)) if isinstance(item, Value)]
    return frozenset(g for value in values for axis in value.axes for g in graph.grouping.positions(value, axis))


def _column_site(graph: Graph, node: fx.Node, reads: Sequence[fx.Node], group: str) -> ScaleSite | None:
    """Return the columns of a group in the weight of a layer; None if the node is not a layer that sums over it."""
    axis = _INPUT_AXIS.get(operator_name(node.target))
    if axis is None or len(reads) > 1:
        return None
    for weight in node.args:
        if not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        path = graph.program.tensors.get(str(weight.target))
        rank = weight.meta["val"].dim() if "val" in weight.meta else 0
        for member in graph.group(group).members:
            if member.path == path and rank > 1 and member.axis == axis % rank:
                return ScaleSite(path=member.path, axis=member.axis, indices=member.indices)
    return None


def _leaves_unread(node: fx.Node) -> bool:
    """Return whether a node reads no values, but only takes part of them or their sizes."""
    if node.target is operator.getitem or operator_name(node.target) in _SELECTS:
        return True
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _users(graph: Graph, path: str) -> set[fx.Node]:
    """Return the nodes that use a tensor, under whatever name the program fetches it."""
    return {
        user
        for node in graph.module.graph.nodes
        if node.op == "get_attr" and graph.program.tensors.get(str(node.target)) == path
        for user in node.users
    }


class _BranchEnd:
    """Walks back from the end of a branch to its last affine tensors, which one scale has to multiply."""

    def __init__(self, graph: Graph, block: ResidualBlock) -> None:
        self._graph, self._block = graph, block
        self.paths: list[str] = []
        self.stopped = ""

    def follow(self, node: Any, reader: fx.Node) -> bool:
        """Collect the tensors behind `node`, which only `reader` may use; False if the branch cannot be scaled."""
        if not isinstance(node, fx.Node) or node.name not in self._block.nodes or set(node.users) != {reader}:
            self.stopped = self.stopped or reader.name
            return False
        name, args = operator_name(node.target), node.args
        if name in _WEIGHT:
            first = _WEIGHT[name]
            return self._take(node, [args[i] for i in (first, first + 1) if i < len(args) and args[i] is not None])
        tensors = [item for item in args if isinstance(item, fx.Node)]
        own = [item for item in tensors if item.op == "get_attr"]
        if name == "mul" and len(own) == 1:
            return self._take(node, own)
        if name in {"mul", "div"} and len(tensors) == 1 and tensors[0] is args[0]:
            return self.follow(tensors[0], node)
        if name in {"add", "sub"} and len(tensors) == 2:
            return all(self._take(node, [t]) if t in own else self.follow(t, node) for t in tensors)
        if name == "cat" and isinstance(args[0], (list, tuple)):
            return all(self.follow(item, node) for item in args[0])
        if name in _PASSES:
            return self.follow(args[0], node)
        self.stopped = node.name
        return False

    def _take(self, reader: fx.Node, tensors: Sequence[Any]) -> bool:
        """Record the parameters of `reader`, which nothing else may use; a norm or layer without any stops the walk."""
        paths = [self._graph.program.tensors.get(str(item.target)) for item in tensors if item.op == "get_attr"]
        alone = [p for p in paths if p in self._block.tensors and _users(self._graph, p) == {reader}]
        if not tensors or len(alone) != len(tensors):
            self.stopped = reader.name
            return False
        self.paths += [path for path in alone if path not in self.paths]
        return True


def _flat(item: Any) -> list[Any]:
    return [leaf for part in item for leaf in _flat(part)] if isinstance(item, (list, tuple)) else [item]
