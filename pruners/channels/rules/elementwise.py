"""Rules for operators that work element by element, and for norms that work channel by channel."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pruners.channels.labels import Value, compact
from pruners.channels.propagation import RULES, Propagation, always, operator_name, rule

__all__ = ["along", "works_channel_by_channel"]


@rule(
    "_to_copy",
    "addcdiv",
    "addcmul",
    "complex",
    "divide",
    "hardswish",
    "lerp",
    "log_sigmoid",
    "masked_fill",
    "multiply",
    "negative",
    "ones_like",
    "pointwise",
    "polar",
    "rsub",
    "subtract",
    "true_divide",
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
    "_conj",
    "alias",
    "alpha_dropout",
    "clone",
    "conj",
    "contiguous",
    "detach",
    "dropout",
    "feature_dropout",
    "fill",
    "hardtanh",
    "imag",
    "lift_fresh_copy",
    "real",
    "relu6",
    "resolve_conj",
    "resolve_neg",
    "celu",
    "selu",
    "rrelu",
    "to",
    "type_as",
    "zero",
)
def unary(_walk: Propagation, x: Value, *_: Any, **__: Any) -> Value:
    """Pass labels through; only the type of a second operand matters, as in `type_as`."""
    return x


@rule("prelu")
def prelu(walk: Propagation, x: Value, weight: Value) -> Value:
    """Join the slopes along the channel axis, unless there is one slope for all."""
    return x if weight.shape in ((), (1,)) else walk.join([x, along(weight, 1, len(x.shape))])


@rule("batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "instance_norm")
def batch_norm(walk: Propagation, x: Value, *parameters: Any, **_: Any) -> Value:
    """Join scale, shift and statistics along the channel axis: each channel is normalised on its own.

    With statistics of its own input, removing averaged entries changes them (standardised weights are computed so).
    """
    own = [along(item, 1, len(x.shape)) for item in parameters[:4] if isinstance(item, Value)]
    joined = walk.join([x, *own])
    if len(parameters) > 4 and parameters[4] is True:
        walk.flag(joined, [axis for axis in x.axes if axis != 1])
    return joined


@rule("layer_norm", "rms_norm")
def layer_norm(walk: Propagation, x: Value, normalized_shape: list[int], *parameters: Any, **_: Any) -> Value:
    """Join scale and shift; removing averaged entries changes the statistics."""
    joined = walk.join([x, *(item for item in parameters if isinstance(item, Value))])
    walk.flag(joined, range(len(x.shape) - len(normalized_shape), len(x.shape)))
    return joined


@rule("group_norm")
def group_norm(walk: Propagation, x: Value, groups: int, *parameters: Any, **_: Any) -> Value:
    """Join scale and shift; lose whole groups, or the channel at one position of every group."""
    own = [along(item, 1, len(x.shape)) for item in parameters[:2] if isinstance(item, Value)]
    joined = walk.join([x, *own])
    per_group = x.shape[1] // groups
    name = walk.name_of(walk.node.args[2] if len(walk.node.args) > 2 else None, walk.node)
    whole = groups > 1 and walk.policy.of_groups(name, groups, per_group) == "groups"
    slots = []
    for slot in joined.slots:
        if slot.shape[1] > 1 and groups > 1:
            by_group = slot.reshape(slot.shape[0], groups, per_group, *slot.shape[2:])
            tied = walk.tie(by_group, [2 if whole else 1])
            walk.labels.floor(tied, 2)  # with one group, or one channel per group, it is another kind of norm
            if not whole:
                walk.labels.flag(tied, [2])
            slot = compact(tied.expand(by_group.shape).reshape(slot.shape))
        slots.append(slot)
    result = Value(x.shape, tuple(slots))
    walk.flag(result, range(2, len(x.shape)) if groups > 1 else range(1, len(x.shape)))
    return result


@rule("empty_like", "full_like", "rand_like", "randn_like")
def alike(_walk: Propagation, x: Value, *_: Any, **__: Any) -> Value:
    """Take the labels of the tensor whose shape it has."""
    return x


@always("empty", "full", "new_empty", "new_full", "new_ones", "new_zeros", "ones", "zeros")
def filled(walk: Propagation, *_: Any, **__: Any) -> Value:
    """Make a constant; an axis whose size is a number in the code can shrink."""
    value = walk.node.meta["val"]
    if not value.is_floating_point():
        return Value(walk.shape)
    sizes = {axis: int(size) for axis, size in enumerate(value.shape) if is_concrete_int(size) and size > 1}
    shapes = ([-1 if a == axis else 1 for a in range(value.ndim)] for axis in sizes)
    labels = (walk.labels.fresh(size) for size in sizes.values())
    return Value(walk.shape, tuple(one.reshape(shape) for one, shape in zip(labels, shapes, strict=True)))


def works_channel_by_channel(target: Any) -> bool:
    """Return whether an operator changes each channel of its first operand on its own: activation, scale, norm."""
    known = RULES.get(operator_name(target))
    if known is None:
        return isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags
    return known in (pointwise, unary, prelu, batch_norm)


def along(value: Value, axis: int, rank: int) -> Value:
    """View a vector of labels as a tensor of `rank` axes that changes along `axis` only."""
    shape = [1] * rank
    shape[axis] = value.shape[0]
    return Value(tuple(shape), tuple(slot.reshape([1] * axis + [-1] + [1] * (rank - axis - 1)) for slot in value.slots))
