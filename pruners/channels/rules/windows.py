"""Rules for operators that gather windows, sample positions, or scan along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruners.channels.labels import Lock, Value, compact
from pruners.channels.propagation import Propagation, rule
from pruners.channels.rules.movement import lock_along

__all__: list[str] = []


@rule("im2col")
def im2col(walk: Propagation, x: Value, kernel: Sequence[int], *_: Any) -> Value:
    """Put the window of every channel into the channel axis: a channel becomes as many rows as the kernel has cells."""
    cells = kernel[0] * kernel[1]
    slots = []
    for slot in x.slots:
        tied = walk.tie(slot, (2, 3))
        if tied.numel() > 1:
            slots.append(tied.reshape(*tied.shape[:2], 1).repeat_interleave(cells if tied.shape[1] > 1 else 1, 1))
    return Value(walk.shape, tuple(slots))


@rule("col2im")
def col2im(walk: Propagation, x: Value, _: Sequence[int], kernel: Sequence[int], *__: Any) -> Value:
    """Sum windows into an image: the rows of one channel are tied."""
    cells = kernel[0] * kernel[1]
    slots = []
    for slot in x.slots:
        tied = walk.tie(slot, (2,)).squeeze(2)
        if tied.shape[1] > 1:
            tied = walk.tie(tied.reshape(tied.shape[0], -1, cells), (2,)).squeeze(2)
        if tied.numel() > 1:
            slots.append(tied[:, :, None, None])
    return Value(walk.shape, tuple(slots))


@rule("unfold")
def unfold(walk: Propagation, x: Value, dimension: int, *_: Any) -> Value:
    """Slide along an axis: the windows are a new last axis."""
    rest = lock_along(walk, x, [dimension % len(x.shape)], "slides over its positions")
    return Value(walk.shape, tuple(slot.unsqueeze(-1) for slot in rest.slots))


@rule("cumsum", "cumprod", "logcumsumexp", "sort", "argsort", "topk", "kthvalue")
def scan(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Lock the labels along an axis whose entries are taken in order."""
    names = [argument.name for argument in walk.node.target._schema.arguments[1:]]  # type: ignore[union-attr]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    dim = given.get("dim", -1)
    rest = lock_along(walk, x, [int(dim) % len(x.shape)], "takes its channels in order")
    plain = walk.plain(walk.node.meta["val"])
    if isinstance(plain, list):
        return [Value(item.shape, rest.slots if len(item.shape) == len(x.shape) else ()) for item in plain]
    return Value(plain.shape, rest.slots)


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def sample(walk: Propagation, x: Value, grid: Value, *_: Any) -> Value:
    """Read an image at positions given by another tensor."""
    walk.lock(grid.slots, Lock(f"{walk.node.name} reads positions from it"))
    tied = (walk.tie(slot, range(2, len(x.shape))) for slot in x.slots)
    return Value(walk.shape, tuple(slot for slot in tied if slot.numel() > 1))


@rule("torchvision::roi_align", "torchvision::roi_pool")
def regions(walk: Propagation, x: Value, boxes: Value, *_: Any) -> Any:
    """Pool regions: every region has all channels."""
    walk.lock(boxes.slots, Lock(f"{walk.node.name} reads positions from it"))
    tied = tuple(slot for s in x.slots if (slot := walk.tie(s, (0, 2, 3))).numel() > 1)
    plain = walk.plain(walk.node.meta["val"])
    return [Value(item.shape, tied) for item in plain] if isinstance(plain, list) else Value(plain.shape, tied)


@rule("_weight_norm")
def weight_norm(walk: Propagation, direction: Value, size: Value, dim: int = 0) -> Value:
    """Scale each row along an axis (-1: the whole) to a given size; what is left of a row is normalised again."""
    joined = walk.join([direction, size])
    walk.flag(joined, [axis for axis in joined.axes if axis != dim])
    return Value(walk.shape, tuple(compact(slot) for slot in joined.slots))
