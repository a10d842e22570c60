"""Residual blocks: branches ``f`` of ``x + f(x)`` that can be removed whole, leaving the identity."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import fx

from pruners.channels.labels import Value
from pruners.channels.program import Program
from pruners.channels.propagation import Propagation, operator_name

__all__ = ["ResidualBlock", "find_blocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualBlock:
    """A residual branch.

    Parameters
    ----------
    name : str
        Path of the module that the branch is in (``"layer1.0"``); made unique with ``"#2"`` if one module has
        several, as a transformer block does.
    addition : str
        Node of the graph that adds the branch to its input.
    stays : str
        Node whose value takes the place of the sum.
    tensors : frozenset of str
        Parameters and buffers that only the branch reads, by the model's names.
    nodes : frozenset of str
        Nodes of the branch.
    """

    name: str
    addition: str
    stays: str
    tensors: frozenset[str]
    nodes: frozenset[str] = field(repr=False)


def find_blocks(program: Program, walk: Propagation, names: Collection[str]) -> tuple[ResidualBlock, ...]:
    """Find the additions with one operand computed from the other and from nothing else in the network.

    Parameters
    ----------
    names : collection of str
        Names of all parameters and buffers of the network. Those that the program does not read (a counter of batches)
        belong to the block that holds the rest of their layer.
    """
    nodes = list(program.module.graph.nodes)
    order = {node: position for position, node in enumerate(nodes)}
    blocks: list[ResidualBlock] = []
    used: dict[str, int] = {}
    unknown = set(names) - set(program.tensors.values())
    for node in nodes:
        if operator_name(node.target) != "add" or len(node.all_input_nodes) != 2 or node.kwargs.get("alpha", 1) != 1:
            continue
        left, right = sorted(node.all_input_nodes, key=lambda item: order[item])
        values = [walk.values[item.name] for item in (left, right, node)]
        if not all(isinstance(value, Value) for value in values) or len({value.shape for value in values}) > 1:
            continue
        branch = _branch(right, left, node, order)
        if branch is None:
            continue
        name = _path_of([*branch, node])
        used[name] = used.get(name, 0) + 1
        read = {program.tensors[str(n.target)] for n in branch if str(n.target) in program.tensors}
        layers = {tensor.rpartition(".")[0] for tensor in read}
        unread = {tensor for tensor in unknown if tensor.rpartition(".")[0] in layers}
        blocks.append(
            ResidualBlock(
                name=name if used[name] == 1 else f"{name}#{used[name]}",
                addition=node.name,
                stays=left.name,
                tensors=frozenset(read | unread),
                nodes=frozenset(n.name for n in branch),
            )
        )
    return tuple(blocks)


def _branch(end: fx.Node, start: fx.Node, addition: fx.Node, order: dict[fx.Node, int]) -> list[fx.Node] | None:
    """Return the nodes between `start` and `end`, if they hold a parameter and nothing else depends on them."""
    if start.op == "get_attr":
        return None
    seen: set[fx.Node] = set()
    stack = [end]
    reached = False
    while stack:
        node = stack.pop()
        if node is start:
            reached = True
            continue
        if node in seen:
            continue
        # what comes before `start` and is not a size: the branch has another source than its input
        if node.op == "placeholder" or (node.op != "get_attr" and order[node] < order[start] and not _is_size(node)):
            return None
        seen.add(node)
        if not _is_size(node):
            stack.extend(node.all_input_nodes)
    branch = {node for node in seen if not _is_size(node)}
    inner = [node for node in branch if node.op != "get_attr"]
    if not reached or any(user not in branch and user is not addition for node in inner for user in node.users):
        return None
    own = [n for n in branch if n.op != "get_attr" or all(user in branch for user in n.users)]
    return sorted(own, key=lambda n: order[n]) if any(n.op == "get_attr" for n in own) else None


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool))


def _path_of(nodes: Sequence[fx.Node]) -> str:
    stacks = [[path for path, _ in n.meta["nn_module_stack"].values()] for n in nodes if n.meta.get("nn_module_stack")]
    common = ""
    for paths in zip(*stacks, strict=False):
        if len(set(paths)) > 1:
            break
        common = paths[0]
    return common or nodes[-1].name
