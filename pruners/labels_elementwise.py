"""Rules of operators that work element by element, and of norms that work channel by channel."""

from __future__ import annotations

from typing import Any

import torch

from pruners.labels import Lock, Value
from pruners.labels_propagate import RULES, Propagation, operator_name, rule

__all__ = ["along", "works_channel_by_channel"]


@rule(
    "_to_copy",
    "addcdiv",
    "addcmul",
    "divide",
    "hardswish",
    "lerp",
    "log_sigmoid",
    "masked_fill",
    "multiply",
    "negative",
    "ones_like",
    "pointwise",
    "rsub",
    "subtract",
    "to",
    "true_divide",
    "type_as",
    "where",
    "zeros_like",
)
def pointwise(walk: Propagation, *operands: Any, **named: Any) -> Value:
    """Unite the labels that meet; one operand alone passes through."""
    tensors = [item for item in (*operands, *named.values()) if isinstance(item, Value)]
    if len(tensors) == 1:
        return tensors[0]
    joined = walk.join(tensors)
    return Value(walk.shape, joined.slots)


@rule(
    "alias",
    "alpha_dropout",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "feature_dropout",
    "hardtanh",
    "lift_fresh_copy",
    "relu6",
    "celu",
    "selu",
    "rrelu",
)
def unary(_walk: Propagation, x: Value, *_: Any, **__: Any) -> Value:
    """Pass labels through."""
    return x


@rule("prelu")
def prelu(walk: Propagation, x: Value, weight: Value) -> Value:
    """Join the slopes along the channel axis, unless there is one slope for all."""
    return x if weight.shape in ((), (1,)) else walk.join([x, along(weight, 1, len(x.shape))])


@rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "instance_norm")
def batch_norm(walk: Propagation, x: Value, *parameters: Any, **_: Any) -> Value:
    """Join scale, shift and statistics along the channel axis: each channel is normalised for itself."""
    own = [along(item, 1, len(x.shape)) for item in parameters[:4] if isinstance(item, Value)]
    return walk.join([x, *own])


@rule("layer_norm", "rms_norm")
def layer_norm(walk: Propagation, x: Value, normalized_shape: list[int], *parameters: Any, **_: Any) -> Value:
    """Join scale and shift; lock what is averaged over."""
    joined = walk.join([x, *(item for item in parameters if isinstance(item, Value))])
    over = range(len(x.shape) - len(normalized_shape), len(x.shape))
    lock_norm(walk, joined, tuple(over), "LayerNorm")
    return joined


@rule("group_norm")
def group_norm(walk: Propagation, x: Value, groups: int, *parameters: Any, **_: Any) -> Value:
    """Join scale and shift; a group of channels is averaged over, so its channels stay."""
    own = [along(item, 1, len(x.shape)) for item in parameters[:2] if isinstance(item, Value)]
    joined = walk.join([x, *own])
    if groups < x.shape[1]:
        lock_norm(walk, joined, tuple(range(1, len(x.shape))), "GroupNorm")
    else:
        walk.lock(joined.slots, Lock(f"{walk.node.name} has its number of groups fixed"))
    return joined


def lock_norm(walk: Propagation, value: Value, axes: tuple[int, ...], kind: str) -> None:
    """Lock the slots that a norm averages over."""
    lock = Lock(f"pruning across a {kind} can not be proven by masking", exact=False)
    walk.lock([slot for slot in value.slots if any(slot.shape[axis] > 1 for axis in axes)], lock)


def works_channel_by_channel(target: Any) -> bool:
    """Tell whether an operator changes each channel of its first operand for itself: activation, scale, norm."""
    known = RULES.get(operator_name(target))
    if known is None:
        return isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags
    return known in (pointwise, unary, prelu, batch_norm)


def along(value: Value, axis: int, rank: int) -> Value:
    """View a vector of labels as a tensor of `rank` axes that changes along `axis` only."""
    shape = [1] * rank
    shape[axis] = value.shape[0]
    return Value(tuple(shape), tuple(slot.reshape([1] * axis + [-1] + [1] * (rank - axis - 1)) for slot in value.slots))
