"""Find the graph nodes that hold the feature maps of a group, to tap them for criteria that use activations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pruners.channels.grouping import Grouping
from pruners.channels.labels import Value
from pruners.channels.propagation import Propagation, hint
from pruners.channels.rules.elementwise import works_channel_by_channel
from pruners.groups import ChannelGroup

__all__ = ["Site", "find_sites"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One feature map of a group.

    Parameters
    ----------
    node : str
        Name of the node of `Graph.module` that computes the map.
    axis : int
        Channel axis of that value.
    indices : tuple of tuple of int
        ``indices[unit]`` are the positions of a unit along `axis`; empty if the unit is not in this map.
    examples : int, default=0
        Batch axis: the second one if the first axis of the map is time.
    """

    node: str
    axis: int
    indices: tuple[tuple[int, ...], ...]
    examples: int = 0

    @property
    def axis_behind_examples(self) -> int:
        """Channel axis once the axis of the batch is moved to the front."""
        return self.axis + (self.axis < self.examples)


def find_sites(
    module: fx.GraphModule, grouping: Grouping, groups: Sequence[ChannelGroup]
) -> Mapping[str, tuple[Site, ...]]:
    """Find the sites of every prunable group.

    A site is the end of the element-wise chain after a producer: normalisation, activation, scale, depthwise
    convolution, as long as each value has one reader. A value that only scales another one
    (squeeze-and-excitation) is not a feature map; it is listed only for a group that has no other.
    """
    walk = grouping.walk
    nodes = {node.name: node for node in module.graph.nodes}
    free = _free_batch(module)
    sites: dict[str, list[tuple[bool, Site]]] = {}
    for start in walk.starts:
        end = _end_of_chain(nodes[start], walk)
        value = walk.values[end.name]
        if not isinstance(value, Value):
            continue
        for axis in range(len(value.shape)):
            for index, units in grouping.positions(value, axis).items():
                group = groups[index]
                if not group.prunable:
                    continue
                indices = tuple(tuple(units.get(unit, ())) for unit in range(group.n_units))
                site = Site(node=end.name, axis=axis, indices=indices, examples=_examples_axis(end, free))
                own = sites.setdefault(group.name, [])
                if all(site != other for _, other in own):
                    own.append((_only_scales(end), site))
    return {
        name: tuple(site for scales, site in own if not scales or all(only for only, _ in own))
        for name, own in sites.items()
    }


def _free_batch(module: fx.GraphModule) -> str | None:
    """Return the name of the dynamic batch size; None if the batch size is fixed."""
    inputs = (node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder")
    sizes: Iterator[Any] = (item.shape[0] for item in inputs if isinstance(item, Tensor) and item.ndim)
    return next((str(size) for size in sizes if isinstance(size, torch.SymInt) and not is_concrete_int(size)), None)


def _examples_axis(node: fx.Node, free: str | None) -> int:
    """Return the first axis that has the dynamic batch size `free`; 0 if the batch size is fixed or no axis has it."""
    sizes: Sequence[Any] = node.meta["val"].shape if free is not None else ()
    return next((axis for axis, size in enumerate(sizes) if str(size) == free), 0)


def _end_of_chain(node: fx.Node, walk: Propagation) -> fx.Node:
    while len(node.users) == 1:
        (user,) = node.users
        others = [item for item in user.all_input_nodes if item is not node]
        if user.op != "call_function" or any(item.name in walk.active for item in others):
            break
        carries = user.name in walk.carriers and user.args[0] is node
        if not carries and not works_channel_by_channel(user.target):
            break
        node = user
    return node


def _only_scales(node: fx.Node) -> bool:
    if len(node.users) != 1:
        return False
    (user,) = node.users
    if user.target not in (torch.ops.aten.mul.Tensor, torch.ops.aten.mul_.Tensor):
        return False
    sizes = {item: math.prod(_sizes(item)) for item in user.all_input_nodes}
    return sizes[node] < max(sizes.values())


def _sizes(node: fx.Node) -> list[int]:
    return [hint(size) for size in node.meta["val"].shape]
