"""Rules for pooling, resizing, reductions and softmax."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from pruners.channels.labels import Lock, Value, varying
from pruners.channels.propagation import Propagation, operator_name, rule

__all__: list[str] = []


@rule(
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "avg_pool1d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "upsample_linear1d",
    "upsample_nearest1d",
    "_upsample_nearest_exact1d",
)
def pool_1d(walk: Propagation, x: Value, *_: Any, **__: Any) -> Any:
    """Pool over the last axis."""
    return _pool(walk, x, 1)


@rule(
    "_adaptive_avg_pool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "max_pool2d",
    "max_pool2d_with_indices",
    "upsample_bicubic2d",
    "upsample_bilinear2d",
    "upsample_nearest2d",
    "_upsample_nearest_exact2d",
)
def pool_2d(walk: Propagation, x: Value, *_: Any, **__: Any) -> Any:
    """Pool or resize over the last two axes."""
    return _pool(walk, x, 2)


@rule(
    "adaptive_avg_pool3d",
    "adaptive_max_pool3d",
    "avg_pool3d",
    "max_pool3d",
    "max_pool3d_with_indices",
    "upsample_nearest3d",
    "_upsample_nearest_exact3d",
    "upsample_trilinear3d",
)
def pool_3d(walk: Propagation, x: Value, *_: Any, **__: Any) -> Any:
    """Pool or resize over the last three axes."""
    return _pool(walk, x, 3)


def _pool(walk: Propagation, x: Value, n_axes: int) -> Any:
    axes = range(len(x.shape) - n_axes, len(x.shape))
    slots = tuple(walk.tie(slot, axes) for slot in x.slots)
    plain = walk.plain(walk.node.meta["val"])
    if isinstance(plain, list):
        return [Value(item.shape, slots) for item in plain]
    return Value(plain.shape, slots)


@rule(
    "amax",
    "amin",
    "linalg_vector_norm",
    "max",
    "mean",
    "min",
    "norm",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
)
def reduce(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Reduce axes: labels along them only end here, others are tied along them.

    A sum or norm over the survivors equals that of the masked tensor; a mean, deviation or maximum is over fewer
    numbers, as in a norm layer.
    """
    if args and isinstance(args[0], Value):
        return walk.join([x, args[0]])  # max and min of two tensors
    names = [argument.name for argument in walk.node.target._schema.arguments[1:]]  # type: ignore[union-attr]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    dim = given.get("dim")
    axes = _axes(dim, len(x.shape))
    keep = bool(given.get("keepdim", False))
    spread = operator_name(walk.node.target) in {"std", "std_mean", "var", "var_mean"}
    names_positions = any(user.target is operator.getitem and user.args[1] == 1 for user in walk.node.users)
    slots = []
    for slot in x.slots:
        if all(axis in axes for axis in varying(slot)):
            if operator_name(walk.node.target) in {"max", "min"} and names_positions:
                walk.labels.lock(slot, Lock(f"{walk.node.name} gives positions of it"))
            walk.labels.flag(slot, axes)
            if spread:
                walk.labels.floor(slot, 2)  # one value has no deviation
            continue
        tied = walk.tie(slot, axes)
        for axis in sorted(() if keep else axes, reverse=True):
            tied = tied.squeeze(axis)
        slots.append(tied)
    plain = walk.plain(walk.node.meta["val"])
    if isinstance(plain, list):
        return [Value(item.shape, tuple(slots)) for item in plain]
    return Value(plain.shape, tuple(slots))


@rule("linalg_norm", "linalg_matrix_norm")
def linalg_norm(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Any:
    """Reduce as the root of a sum of squares does; other norms of matrices mix rows and columns."""
    names = [argument.name for argument in walk.node.target._schema.arguments[1:]]  # type: ignore[union-attr]
    matrix = operator_name(walk.node.target) == "linalg_matrix_norm"
    given = {"ord": None, "dim": (-2, -1) if matrix else None, **dict(zip(names, args, strict=False)), **kwargs}
    vectors = not matrix and given["dim"] is not None and len(_axes(given["dim"], len(x.shape))) == 1
    return reduce(walk, x, **given) if vectors or given["ord"] in (None, "fro") else mix(walk, x)


@rule("cosine_similarity")
def cosine_similarity(walk: Propagation, x: Value, y: Value, dim: int = 1, *_: Any) -> Value:
    """Compare along an axis: sums of products, to which a removed entry adds nothing."""
    both = walk.join([x, y])
    axis = dim % len(both.shape)
    walk.flag_compared([both, both], axis)
    tied = [walk.tie(slot, [axis]).squeeze(axis) for slot in both.slots if varying(slot) != (axis,)]
    return Value(walk.shape, tuple(slot for slot in tied if slot.numel() > 1))


@rule("max_unpool2d", "max_unpool3d")
def unpool(walk: Propagation, x: Value, positions: Value, *_: Any) -> Value:
    """Put each entry where pooling took it from, within its channel."""
    joined = walk.join([x, positions])
    space = range(2, len(x.shape))
    return Value(walk.shape, tuple(tied for slot in joined.slots if (tied := walk.tie(slot, space)).numel() > 1))


@rule("logsumexp", "prod", "argmax", "argmin", "any", "all", "median", "mode", "quantile")
def mix(walk: Propagation, x: Value, *_: Any, **__: Any) -> Any:
    """Refuse to prune entries that are mixed so that removed ones cannot be told apart from zeros."""
    return walk.refuse([x], f"{walk.node.target} mixes its channels")


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(walk: Propagation, x: Value, dim: int, *_: Any, **__: Any) -> Value:
    """Lock labels along `dim` only, whose entries depend on each other; tie others along it."""
    slots = []
    for slot in x.slots:
        tied = walk.tie(slot, _axes(dim, len(x.shape)))
        if tied.numel() == 1:
            walk.labels.lock(slot, Lock(f"{walk.node.name} reduces over its channels"))
        else:
            slots.append(tied)
    return Value(x.shape, tuple(slots))


def _axes(dim: Any, rank: int) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    return tuple(axis % rank for axis in (dim if isinstance(dim, Sequence) else [dim]))
