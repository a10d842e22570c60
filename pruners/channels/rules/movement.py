"""Rules for operators that only move data: they are executed on the labels themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pruners.channels.labels import Lock, Value, compact, varying
from pruners.channels.propagation import Propagation, always, operator_name, rule

__all__: list[str] = []


@rule(
    "_unsafe_view",
    "flatten",
    "flip",
    "mH",
    "mT",
    "movedim",
    "numpy_T",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "repeat",
    "repeat_interleave",
    "reshape",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "tile",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
)
def move(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Execute the operator on each slot."""
    if any(isinstance(item, Value) for item in (*args, *kwargs.values())):
        return walk.refuse([x], f"{walk.node.target} depends on data")
    target: Callable[..., Tensor] = walk.node.target  # type: ignore[assignment]
    if operator_name(walk.node.target) == "squeeze":
        _keep_wide(walk, x, *args)
    if "view" in str(target):
        target = torch.reshape
    return Value(walk.shape, tuple(compact(target(slot.expand(x.shape), *args, **kwargs)) for slot in x.slots))


@always("expand", "broadcast_to")
def expand(walk: Propagation, x: Value, *_: Any, **__: Any) -> Value:
    """Repeat along axes of size one; an axis repeated by a number in the code can be repeated less often."""
    slots = [compact(slot.expand(x.shape).expand(walk.shape)) for slot in x.slots]
    new = len(walk.shape) - len(x.shape)
    for axis, size in enumerate(walk.node.meta["val"].shape):
        if _counted(size) > 1 and (axis < new or x.shape[axis - new] == 1):
            n = walk.shape[axis]
            slots.append(walk.labels.fresh(n).reshape([-1 if a == axis else 1 for a in range(len(walk.shape))]))
    return Value(walk.shape, tuple(slots))


def _counted(size: Any) -> int:
    """Return the constant factor of a size: 4 for 4 heads times the batch, 1 for the batch alone."""
    return int(size) if is_concrete_int(size) else int(size.node.expr.as_coeff_Mul()[0])


def _keep_wide(walk: Propagation, x: Value, dims: Any = None) -> None:
    """Keep at least two entries along axes that a squeeze may drop: it drops every axis of size one."""
    named = range(len(x.shape)) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {axis % len(x.shape) for axis in named}
    for slot in x.slots:
        if any(slot.shape[axis] > 1 for axis in axes):
            walk.labels.floor(slot, 2)


@rule("channel_shuffle")
def channel_shuffle(walk: Propagation, x: Value, groups: int) -> Value:
    """Interleave the channels of `groups` groups, as `view`, `transpose` and `view` do."""
    batch, channels, *space = x.shape
    shape = (batch, groups, channels // groups, *space)
    apart = [s.reshape(s.shape[0], *((groups, -1) if s.shape[1] > 1 else (1, 1)), *s.shape[2:]) for s in x.slots]
    walk.every.append(Value(shape, tuple(compact(slot) for slot in apart)))
    turned = [slot.transpose(1, 2) for slot in apart]
    return Value(x.shape, tuple(compact(slot.reshape(slot.shape[0], -1, *slot.shape[3:])) for slot in turned))


@rule("view_as", "reshape_as")
def move_as(walk: Propagation, x: Value, _: Value) -> Value:
    """Reshape to the shape of another tensor."""
    return Value(walk.shape, tuple(compact(slot.expand(x.shape).reshape(walk.shape)) for slot in x.slots))


@rule("expand_as")
def expand_as(walk: Propagation, x: Value, other: Value) -> Value:
    """Expand to the shape of another tensor: new axes take the labels of that tensor."""
    slots = [compact(slot.expand(x.shape).expand(walk.shape)) for slot in x.slots]
    new = len(walk.shape) - len(x.shape)
    wider = {axis for axis, size in enumerate(walk.shape) if size > 1 and (axis < new or x.shape[axis - new] == 1)}
    return Value(walk.shape, (*slots, *(slot for slot in other.slots if set(varying(slot)) <= wider)))


@rule("chunk", "split", "split_with_sizes", "tensor_split")
def split(walk: Propagation, x: Value, _: Any, dim: int = 0) -> list[Value]:
    """Cut into pieces. Equal pieces are tied, so that code that cuts into equal pieces still works."""
    axis = dim % len(x.shape)
    shapes = [tuple(item.shape) for item in walk.plain(walk.node.meta["val"])]
    sizes = [shape[axis] for shape in shapes]
    slots: list[list[Tensor]] = [[] for _ in sizes]
    for slot in x.slots:
        if slot.shape[axis] == 1:
            for piece in slots:
                piece.append(slot)
            continue
        parts = torch.split_with_sizes(slot, sizes, axis)
        for part in parts[1:] if len(set(sizes)) == 1 else ():
            walk.labels.unite(parts[0], part, Lock(f"{walk.node.name} cuts it into equal pieces"))
        for piece, part in zip(slots, parts, strict=True):
            piece.append(compact(part))
    pieces = [Value(shape, tuple(piece)) for shape, piece in zip(shapes, slots, strict=True)]
    for one in pieces:
        walk.part(one, axis)
    return pieces


@rule("glu")
def glu(walk: Propagation, x: Value, dim: int = -1) -> Value:
    """Gate one half of the channels by the other: the halves are tied."""
    axis = dim % len(x.shape)
    slots = []
    for slot in x.slots:
        if slot.shape[axis] > 1:
            left, right = slot.chunk(2, axis)
            walk.labels.unite(left, right, Lock(f"{walk.node.name} gates it by a tensor that cannot shrink"))
            slot = compact(left)
        slots.append(slot)
    return Value(walk.shape, tuple(slots))


@rule("slice", "narrow")
def cut(walk: Propagation, x: Value, dim: int = 0, *args: Any, **kwargs: Any) -> Value:
    """Take a part of an axis; a step other than 1 picks entries by position, which locks."""
    axis = dim % len(x.shape)
    if walk.shape == x.shape:
        return x
    step = kwargs.get("step", args[2] if len(args) > 2 else 1)
    moved = any(slot.shape[axis] > 1 for slot in x.slots)
    known = isinstance(step, int) and step == 1 and all(isinstance(item, (int, type(None))) for item in args)
    if moved and not known:
        return lock_along(walk, x, [axis], "takes given positions of it")
    start = args[0] if args else kwargs.get("start", 0)
    start = 0 if start is None else start + x.shape[axis] if start < 0 else start
    slots = (s.narrow(axis, start, walk.shape[axis]) if s.shape[axis] > 1 else s for s in x.slots)
    part = Value(walk.shape, tuple(compact(slot) for slot in slots))
    walk.part(part, axis)
    return part


@rule("roll")
def roll(walk: Propagation, x: Value, _shifts: Any, dims: Any = (), *_: Any) -> Value:
    """Shift along some axes: labels along them are locked, the others do not move."""
    axes = [dims] if isinstance(dims, int) else list(dims)
    return lock_along(walk, x, [axis % len(x.shape) for axis in axes] or list(x.axes), "shifts positions of it")


@rule("reflection_pad1d", "reflection_pad2d", "replication_pad2d", "diagonal")
def by_position(walk: Propagation, x: Value, *_: Any, **__: Any) -> Any:
    """Lock the axes whose size changes, or all if none does: entries are picked by position."""
    if len(walk.shape) != len(x.shape) or walk.shape == x.shape:
        return walk.refuse([x], f"{walk.node.target} names positions of it")
    changed = [axis for axis, (a, b) in enumerate(zip(x.shape, walk.shape, strict=True)) if a != b]
    return lock_along(walk, x, changed, "names positions of it")


@rule("index_select")
def index_select(walk: Propagation, x: Value, dim: int, _: Value) -> Value:
    """Take positions of an axis: labels along it are locked, the others do not move."""
    return lock_along(walk, x, [dim % len(x.shape)], "names positions of it")


@rule("gather")
def gather(walk: Propagation, x: Value, dim: int, where: Value, **_: Any) -> Value:
    """Take positions of an axis, separately for each entry along the others: the indices shrink with these."""
    axis = dim % len(x.shape)
    held = lock_along(walk, x, [axis], "names positions of it")
    shape = tuple(1 if a == axis else size for a, size in enumerate(where.shape))
    changed = [a for a in x.axes if a != axis and x.shape[a] != where.shape[a]]
    if changed:
        held = lock_along(walk, held, changed, "names positions of it")
    indices = lock_along(walk, where, [axis], "names positions by it")
    joined = walk.join([Value(shape, held.slots), Value(shape, indices.slots)])
    return Value(walk.shape, joined.slots)


@rule("index")
def index(walk: Propagation, x: Value, indices: Sequence[Any]) -> Value:
    """Lock or tie along the indexed axes; labels along the others move with them."""
    used = [axis for axis, item in enumerate(indices) if item is not None]
    if any(not isinstance(item, Value) for item in indices if item is not None):
        result: Value = walk.refuse([x], f"{walk.node.target} with unknown indices")
        return result
    held = lock_along(walk, x, used, "names positions of it")
    where = tuple(slice(None) if item is None else torch.zeros(item.shape, dtype=torch.int64) for item in indices)
    rest = [compact(slot.expand(x.shape)[where]) for slot in held.slots]
    if any(
        tuple(slot.shape[a] for a in range(slot.ndim) if slot.shape[a] > 1) and slot.ndim != len(walk.shape)
        for slot in rest
    ):
        walk.lock(rest, Lock(f"{walk.node.name} gives a shape that depends on data"))
        rest = []
    return Value(walk.shape, tuple(rest))


@rule("select", "unbind")
def select(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Tie along the axis that is taken apart, then execute."""
    position = 1 if walk.node.target is torch.ops.aten.select.int and len(args) > 1 else 0
    dim = kwargs.get("dim", args[0] if args else 0)
    axis = int(dim) % len(x.shape)
    tied = [walk.tie(slot, [axis]).squeeze(axis) for slot in x.slots]
    if position:
        return Value(walk.shape, tuple(tied))
    return [Value(item.shape, tuple(tied)) for item in walk.plain(walk.node.meta["val"])]


@rule("cat", "concat", "concatenate")
def cat(walk: Propagation, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Put labels one after the other along `dim`; along the other axes they are united."""
    tensors = [item for item in tensors if item.shape != (0,)]
    axis = dim % len(walk.shape)
    flat = [
        Value((*item.shape[:axis], 1, *item.shape[axis + 1 :]), tuple(s for s in item.slots if s.shape[axis] == 1))
        for item in tensors
    ]
    slots = list(walk.join(flat).slots)
    pieces = []
    for item in tensors:
        own = [slot for slot in item.slots if slot.shape[axis] > 1]
        for slot in own[1:]:
            walk.labels.unite(own[0], slot, Lock(f"{walk.node.name} joins it with a tensor that cannot shrink"))
        pieces.append(own[0] if own else torch.zeros(1, dtype=torch.int64).expand([1] * len(walk.shape)))
    if any(bool(piece.any()) for piece in pieces):
        wide = [max(piece.shape[a] for piece in pieces) for a in range(len(walk.shape))]
        parts = []
        for item, piece in zip(tensors, pieces, strict=True):
            wide[axis] = item.shape[axis]
            parts.append(piece.expand(wide))
        slots.append(compact(torch.cat(parts, axis)))
    return Value(walk.shape, tuple(slots))


@rule("stack")
def stack(walk: Propagation, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Unite operands, then add the new axis."""
    joined = walk.join(tensors)
    axis = dim % len(walk.shape)
    return Value(walk.shape, tuple(slot.unsqueeze(axis) for slot in joined.slots))


@rule("constant_pad_nd", "pad", "zero_pad2d")
def pad(walk: Propagation, x: Value, amounts: Sequence[int], mode: Any = "constant", *_: Any) -> Value:
    """Give new entries no label; a mode that copies entries locks the padded axes."""
    padded = {len(x.shape) - 1 - i // 2 for i, amount in enumerate(amounts) if amount}
    if isinstance(mode, str) and mode != "constant":
        return lock_along(walk, x, sorted(padded), "copies positions of it")
    if any(amount < 0 for amount in amounts):
        return lock_along(walk, x, sorted(padded), "cuts positions of it off")
    slots = []
    for slot in x.slots:
        own = [amount if slot.shape[len(x.shape) - 1 - i // 2] > 1 else 0 for i, amount in enumerate(amounts)]
        slots.append(torch.nn.functional.pad(slot, own))
    return Value(walk.shape, tuple(slots))


def lock_along(walk: Propagation, x: Value, axes: Sequence[int], what: str) -> Value:
    """Keep all positions along `axes`: a slot that changes along others too is tied, one that does not is locked."""
    stay = []
    for slot in x.slots:
        tied = walk.tie(slot, axes)
        if tied.numel() > 1:
            stay.append(tied)
        else:
            walk.labels.lock(slot, Lock(f"{walk.node.name} {what}"))
    several = isinstance(walk.node.meta["val"], (list, tuple))
    return Value(x.shape if several else walk.shape, tuple(stay))
