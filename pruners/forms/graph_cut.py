"""Cut a program: update the sizes that the exporter wrote into it to the shapes of the survivors.

Works on any network that can be traced: of the sizes that the network's own code names, the graph holds only values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pruners.channels.labels import Value
from pruners.channels.program import Program
from pruners.channels.propagation import Propagation, operator_name
from pruners.channels.survivors import Survivors
from pruners.modules.attributes import SizeChange

__all__ = ["REWRITTEN", "CutGraph", "cut_graph"]

_aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class CutGraph:
    """A graph that runs on the survivors.

    Parameters
    ----------
    graph : Graph
        Fetches tensors by the names of the program it was cut from.
    changes : tuple of SizeChange
        The constants that changed, each with the module whose code it comes from.
    proportional : bool
        Whether sizes that the graph computes shrink by the same share at all input sizes.
    """

    graph: fx.Graph
    changes: tuple[SizeChange, ...]
    proportional: bool


def cut_graph(
    program: Program, walk: Propagation, survivors: Survivors, blocks: Sequence[tuple[str, str]] = ()
) -> CutGraph:
    """Copy the graph of a program with the sizes of the survivors.

    Parameters
    ----------
    program : Program
        Not modified.
    walk : Propagation
        Walk through that program, solved.
    survivors : Survivors
        What a plan leaves.
    blocks : sequence of (str, str)
        Residual branches to remove: name of the addition, and of the operand that takes its place.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(program.module.graph, copies, return_output_node=True)
    assert isinstance(output, tuple)
    graph.output(output[0])
    graph.set_codegen(program.module.graph._codegen)
    named = {node.name: copy for node, copy in copies.items()}
    instead = dict(blocks)
    for addition, stays in blocks:
        while stays in instead:
            stays = instead[stays]
        named[addition].replace_all_uses_with(named[stays])
    cut = _Cut(graph, walk, survivors, program.batch, {copy: node for node, copy in copies.items()})
    for original, copy in copies.items():
        rewrite = _REWRITES.get(operator_name(original.target))
        if rewrite is not None:
            cut.node = original
            rewrite(cut, copy)
    graph.eliminate_dead_code(lambda node: node.op not in {"call_function", "get_attr"} or _writes(node))
    return CutGraph(graph, tuple(dict.fromkeys(cut.changes)), cut.proportional)


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


@dataclass(eq=False)
class _Cut:
    graph: fx.Graph
    walk: Propagation
    survivors: Survivors
    batch: int
    originals: dict[fx.Node, fx.Node]
    node: fx.Node = field(init=False)
    changes: list[SizeChange] = field(default_factory=list)
    proportional: bool = True

    def value(self, item: Any) -> Value | None:
        """Return the labelled value of an argument of the copied graph."""
        value = self.walk.values.get(self.originals[item].name) if isinstance(item, fx.Node) else None
        return value if isinstance(value, Value) else None

    @property
    def result(self) -> Any:
        return self.walk.values[self.node.name]

    def note(self, old: int, new: int) -> None:
        """Record a changed constant with the module whose code it comes from."""
        if old % self.batch == 0 == new % self.batch and self.batch > 1:
            self.note_exactly(old // self.batch, new // self.batch)
        self.note_exactly(old, new)

    def note_exactly(self, old: int, new: int) -> None:
        stack = [path for path, _ in self.node.meta.get("nn_module_stack", {}).values()] or [""]
        self.changes.append(SizeChange(module=stack[-1], old=old, new=new))

    def sizes(self, copy: fx.Node, given: Sequence[Any], value: Value, axes: Sequence[int]) -> list[Any]:
        """Return the sizes in `given`, one for each of `axes` of `value`, after pruning."""
        rewritten: list[Any] = []
        for size, axis in zip(given, axes, strict=True):
            old, new = value.shape[axis], self.survivors.size(value, axis)
            if old == new or (isinstance(size, int) and size == -1):
                rewritten.append(size)
            elif isinstance(size, int):
                self.note_exactly(size, new)
                rewritten.append(new)
            else:
                self.note(old, new)
                rewritten.append(self.scaled(copy, size, new, old))
        return rewritten

    def scaled(self, before: fx.Node, size: fx.Node, numerator: int, denominator: int) -> fx.Node:
        """Return ``size * numerator // denominator`` for a size that is only known when the network runs."""
        common = math.gcd(numerator, denominator)
        factor, _ = size.meta["val"].node.expr.primitive()
        self.proportional &= factor * numerator % denominator == 0
        with self.graph.inserting_before(before):
            product = self.graph.call_function(operator.mul, (size, numerator // common))
            return self.graph.call_function(operator.floordiv, (product, denominator // common))


def _with(args: tuple[Any, ...], position: int, item: Any) -> tuple[Any, ...]:
    return (*args[:position], item, *args[position + 1 :])


def _resize(position: int) -> Callable[[_Cut, fx.Node], None]:
    def rewrite(cut: _Cut, copy: fx.Node) -> None:
        value, given = cut.result, copy.args[position] if len(copy.args) > position else copy.kwargs.get("size")
        if isinstance(value, Value) and isinstance(given, (list, tuple)) and len(given) == len(value.shape):
            sizes = cut.sizes(copy, given, value, value.axes)
            if len(copy.args) > position:
                copy.args = _with(copy.args, position, sizes)
            else:
                copy.kwargs = {**copy.kwargs, "size": sizes}

    return rewrite


def _unflatten(cut: _Cut, copy: fx.Node) -> None:
    value: Value = cut.result
    x, dim, given = copy.args[0], copy.args[1], copy.args[2]
    assert isinstance(dim, int) and isinstance(given, (list, tuple))
    of_x = cut.value(x)
    assert of_x is not None
    first = dim % len(of_x.shape)
    copy.args = (x, dim, cut.sizes(copy, given, value, range(first, first + len(given))))


def _split(cut: _Cut, copy: fx.Node) -> None:
    pieces: list[Value] = cut.result
    dim = copy.args[2] if len(copy.args) > 2 else copy.kwargs.get("dim", 0)
    assert isinstance(dim, int)
    axis = dim % len(pieces[0].shape)
    old, new = [piece.shape[axis] for piece in pieces], [cut.survivors.size(piece, axis) for piece in pieces]
    if old != new:
        for before, after in zip(old, new, strict=True):
            cut.note_exactly(before, after)
        copy.target = _aten.split_with_sizes.default
        copy.args, copy.kwargs = (copy.args[0], new, dim), {}


def _slice(cut: _Cut, copy: fx.Node) -> None:
    x = cut.value(copy.args[0])
    dim = copy.args[1] if len(copy.args) > 1 else 0
    if x is None or not isinstance(dim, int):
        return
    axis = dim % len(x.shape)
    stay = cut.survivors.along(x, axis)
    start, end = (copy.args[i] if len(copy.args) > i else None for i in (2, 3))
    if stay is None or cut.result.shape == x.shape:
        return
    bounds = []
    for bound, default in ((start, 0), (end, len(stay))):
        at = default if bound is None else bound
        assert isinstance(at, int)
        at = max(0, min(at + len(stay) if at < 0 else at, len(stay)))
        bounds.append(int(stay[:at].sum()))
        cut.note_exactly(at, bounds[-1])
    copy.args = (copy.args[0], dim, *bounds, *copy.args[4:])


def _narrow(cut: _Cut, copy: fx.Node) -> None:
    x = cut.value(copy.args[0])
    dim, start, length = copy.args[1:4]
    if x is None or not (isinstance(dim, int) and isinstance(start, int) and isinstance(length, int)):
        return
    stay = cut.survivors.along(x, dim % len(x.shape))
    if stay is not None:
        start = start + len(stay) if start < 0 else start
        before, kept = int(stay[:start].sum()), int(stay[start : start + length].sum())
        cut.note_exactly(start, before)
        cut.note_exactly(length, kept)
        copy.args = (copy.args[0], dim, before, kept)


def _convolution(position: int) -> Callable[[_Cut, fx.Node], None]:
    def rewrite(cut: _Cut, copy: fx.Node) -> None:
        groups = copy.args[position] if len(copy.args) > position else copy.kwargs.get("groups", 1)
        x = cut.value(copy.args[0])
        if groups == 1 or x is None:
            return
        name = cut.walk.name_of(cut.node.args[1], cut.node)
        if cut.walk.policy.grouped.get(name, "groups") == "positions":
            return
        new: Any
        if isinstance(groups, int):
            new = cut.survivors.size(x, 1) * groups // x.shape[1]
            cut.note_exactly(groups, new)
        else:
            assert isinstance(groups, fx.Node)
            new = cut.scaled(copy, groups, cut.survivors.size(x, 1), x.shape[1])
        if new is not groups:
            if len(copy.args) > position:
                copy.args = _with(copy.args, position, new)
            else:
                copy.kwargs = {**copy.kwargs, "groups": new}

    return rewrite


def _layer_norm(cut: _Cut, copy: fx.Node) -> None:
    x, given = cut.value(copy.args[0]), copy.args[1]
    if x is not None and isinstance(given, (list, tuple)):
        axes = range(len(x.shape) - len(given), len(x.shape))
        copy.args = _with(copy.args, 1, cut.sizes(copy, given, x, axes))


def _channel_norm(cut: _Cut, copy: fx.Node) -> None:
    """Record the channels, which a norm without tensors repeats only in its attributes."""
    del copy
    value: Value = cut.result
    if value.shape[1] != cut.survivors.size(value, 1):
        cut.note_exactly(value.shape[1], cut.survivors.size(value, 1))


def _group_norm(cut: _Cut, copy: fx.Node) -> None:
    x, groups = cut.value(copy.args[0]), copy.args[1]
    name = cut.walk.name_of(cut.node.args[2] if len(cut.node.args) > 2 else None, cut.node)
    if x is None or not isinstance(groups, int) or cut.walk.policy.grouped.get(name, "positions") == "positions":
        return
    new = cut.survivors.size(x, 1) * groups // x.shape[1]
    if new != groups:
        cut.note_exactly(groups, new)
        copy.args = _with(copy.args, 1, new)


def _attention(cut: _Cut, copy: fx.Node) -> None:
    """Keep scaling the scores by the original size of the heads."""
    query = cut.value(copy.args[0])
    if query is not None and copy.kwargs.get("scale") is None:
        size = query.shape[-1]
        if cut.survivors.size(query, len(query.shape) - 1) != size:
            copy.kwargs = {**copy.kwargs, "scale": 1 / math.sqrt(size)}


def _size(cut: _Cut, copy: fx.Node) -> None:
    """Give code that asks for a size the original one."""
    x, dim = cut.value(copy.args[0]), copy.args[1]
    if x is None or not isinstance(dim, int):
        return
    axis = dim % len(x.shape)
    old, new = x.shape[axis], cut.survivors.size(x, axis)
    if old != new:
        after = copy.next
        users = list(copy.users)
        restored = cut.scaled(after, copy, old, new)
        for user in users:
            user.replace_input_with(copy, restored)


_REWRITES: dict[str, Callable[[_Cut, fx.Node], None]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "expand", "broadcast_to"), _resize(1)),
    **dict.fromkeys(("new_empty", "new_full", "new_ones", "new_zeros"), _resize(1)),
    **dict.fromkeys(("empty", "full", "ones", "zeros"), _resize(0)),
    "unflatten": _unflatten,
    **dict.fromkeys(("chunk", "split", "split_with_sizes", "tensor_split"), _split),
    "slice": _slice,
    "narrow": _narrow,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution(6)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution(6)),
    "convolution": _convolution(8),
    "torchvision::deform_conv2d": _convolution(11),
    **dict.fromkeys(("layer_norm", "rms_norm"), _layer_norm),
    "group_norm": _group_norm,
    **dict.fromkeys(("batch_norm", "instance_norm"), _channel_norm),
    "scaled_dot_product_attention": _attention,
    "sym_size": _size,
}
REWRITTEN = _REWRITES.keys()
"""Names of the operators whose arguments repeat sizes."""
