"""Rules for sums of products: convolutions, linear layers, matrix products, attention, embeddings.

Each is written with one letter per axis, as in einsum: a letter in both operands but not in the result is summed over,
one in both and in the result is a batch letter, the others are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pruners.channels.labels import Lock, Value, compact, varying
from pruners.channels.propagation import MacTerm, Propagation, always, rule
from pruners.channels.rules.elementwise import along

__all__ = ["contract"]


def contract(walk: Propagation, x: Value, y: Value, letters: tuple[str, str, str]) -> Value:
    """Unite labels along the letters of a product of two tensors.

    Parameters
    ----------
    letters : tuple of str
        Letters of `x`, `y` and the result; a letter of a size-1 axis is broadcast.

    Returns
    -------
    Value
        Labels of the result, axes in the order of its letters.
    """
    of_x, of_y, of_result = letters
    summed = "".join(letter for letter in of_x if letter in of_y and letter not in of_result)
    space = of_result + summed
    parts, kept = [], []
    for value, own in ((x, of_x), (y, of_y)):
        shape = tuple(value.shape[own.index(letter)] if letter in own else 1 for letter in space)
        over_sum, over_rest = [], []
        for slot in value.slots:
            wide = _spread(slot, own, space)
            rest = [a for a in varying(wide) if a < len(of_result)]
            along_sum = [a for a in varying(wide) if a >= len(of_result)]
            batch = [a for a in rest if of_result[a] in of_x and of_result[a] in of_y]
            if along_sum and batch:
                # with one head, or heads of one position, the network traced again has no such choice
                walk.labels.floor(wide, 2)
                if walk.policy.attention == "heads":
                    wide = walk.tie(wide, along_sum)
                    along_sum = []
            if along_sum:
                over_sum.append(walk.tie(wide, rest))
                walk.weigh(over_sum[-1:])
            elif varying(wide):
                over_rest.append(wide)
        parts.append(Value((1,) * len(of_result) + shape[len(of_result) :], tuple(over_sum)))
        kept.append(Value(shape[: len(of_result)], tuple(s.reshape(s.shape[: len(of_result)]) for s in over_rest)))
    walk.join(parts, wait=False)
    for value in kept:
        walk.mark_produced(value.slots)
    return walk.join(kept, wait=False)


def _spread(slot: Tensor, own: str, space: str) -> Tensor:
    order = [own.index(letter) for letter in space if letter in own]
    wide = slot.permute(order)
    for axis, letter in enumerate(space):
        if letter not in own:
            wide = wide.unsqueeze(axis)
    return wide


@always("linear")
def linear(walk: Propagation, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Multiply the last axis by a matrix stored (out, in)."""
    walk.starts.append(walk.node.name)
    free = "abcdefgh"[: len(x.shape) - 1]
    result = contract(walk, x, weight, (free + "k", "mk", free + "m"))
    if bias is not None:
        result = walk.join([result, bias])
    result = Value(walk.shape, result.slots)
    _count(walk, [*_axes(result), (weight, 1)], result)
    return result


@always("mm", "bmm", "matmul", "mv", "dot", "vdot")
def matmul(walk: Propagation, x: Value, y: Value) -> Value:
    """Multiply matrices, with broadcast batch axes."""
    walk.starts.append(walk.node.name)
    batch = "abcdefgh"
    n_batch = max(len(x.shape), len(y.shape), 2) - 2
    of_x = "k" if len(x.shape) == 1 else batch[n_batch - len(x.shape) + 2 : n_batch] + "nk"
    of_y = "k" if len(y.shape) == 1 else batch[n_batch - len(y.shape) + 2 : n_batch] + "km"
    of_result = batch[:n_batch] + ("n" if "n" in of_x else "") + ("m" if "m" in of_y else "")
    result = Value(walk.shape, contract(walk, x, y, (of_x, of_y, of_result)).slots)
    _count(walk, [*_axes(result), (x, len(x.shape) - 1)], result)
    return result


@rule("cdist", "_cdist_forward")
def distances(walk: Propagation, x: Value, y: Value, *_: Any) -> Value:
    """Compare all rows of two tensors: a feature that is zero in both adds nothing."""
    walk.flag_compared([x, y], -1)
    batch = "abcdefgh"[: len(walk.shape) - 2]
    of_x, of_y = (batch[len(batch) - len(value.shape) + 2 :] + row + "k" for value, row in ((x, "n"), (y, "m")))
    return Value(walk.shape, contract(walk, x, y, (of_x, of_y, batch + "nm")).slots)


@always("addmm", "baddbmm")
def addmm(walk: Propagation, bias: Value, x: Value, y: Value, **_: Any) -> Value:
    """Multiply two matrices and add a third."""
    product = matmul(walk, x, y)
    return Value(walk.shape, walk.join([product, bias]).slots)


@always("einsum")
def einsum(walk: Propagation, equation: str, operands: Sequence[Value], **_: Any) -> Any:
    """Contract operands from left to right by an explicit equation without repeated letters in one operand."""
    equation = _without_ellipsis(equation.replace(" ", ""), [len(operand.shape) for operand in operands])
    terms, arrow, of_result = equation.partition("->")
    sides = terms.split(",")
    if not arrow or "." in equation or any(len(set(side)) < len(side) for side in (*sides, of_result)):
        return walk.refuse(operands, f"einsum {equation!r} is unknown to the label engine")
    walk.starts.append(walk.node.name)
    own = [
        _summed_alone(walk, operand, side, "".join((*sides[:i], *sides[i + 1 :], of_result)))
        for i, (operand, side) in enumerate(zip(operands, sides, strict=True))
    ]
    (result, letters), *others = own
    for place, (operand, side) in enumerate(others):
        later = of_result + "".join(other for _, other in others[place + 1 :])
        kept = "".join(dict.fromkeys(letter for letter in letters + side if letter in later))
        summed = [(result, axis) for axis, letter in enumerate(letters) if letter not in kept]
        result, letters = contract(walk, result, operand, (letters, side, kept)), kept
        walk.every.append(result)
        _count(walk, [*_axes(result), *summed], result)
    order = [letters.index(letter) for letter in of_result]
    return Value(walk.shape, tuple(slot.permute(order) for slot in result.slots))


def _summed_alone(walk: Propagation, value: Value, letters: str, others: str) -> tuple[Value, str]:
    """Sum over the letters that occur nowhere else."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in others]
    slots = []
    for slot in value.slots:
        tied = walk.tie(slot, axes)
        if tied.numel() > 1:
            slots.append(tied.squeeze(axes))
        else:
            walk.labels.flag(slot, axes)
    shape = tuple(size for axis, size in enumerate(value.shape) if axis not in axes)
    return (Value(shape, tuple(slots)) if axes else value), "".join(c for c in letters if c in others)


def _without_ellipsis(equation: str, ranks: Sequence[int]) -> str:
    """Replace ``...`` by letters, the same for the last axes of every operand."""
    terms, arrow, of_result = equation.partition("->")
    sides = terms.split(",")
    if "..." not in equation or not arrow or len(sides) != len(ranks):
        return equation
    free = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
    widths = [rank - len(side) + 3 if "..." in side else 0 for side, rank in zip(sides, ranks, strict=True)]
    letters = "".join(free[: max(widths)])
    own = [letters[len(letters) - width :] for width in widths]
    written = [side.replace("...", some) for side, some in zip(sides, own, strict=True)]
    return f"{','.join(written)}->{of_result.replace('...', letters)}"


@always("scaled_dot_product_attention")
def attention(
    walk: Propagation,
    query: Value,
    key: Value,
    value: Value,
    mask: Value | None = None,
    *_: Any,
    enable_gqa: bool = False,
    **__: Any,
) -> Value:
    """Multiply queries with keys, and the scores with values; see `Policy.attention` for what is pruned."""
    if enable_gqa:
        key, value = (_repeated(item, query.shape[-3] // item.shape[-3]) for item in (key, value))
    batch = "abcdefgh"[: len(query.shape) - 2]
    letters = (batch + "nk", batch + "mk", batch + "nm")
    scores = contract(walk, query, key, letters)
    _count(walk, [*((query, axis) for axis in range(len(query.shape))), (key, len(key.shape) - 2)], scores)
    if mask is not None:
        scores = walk.join([scores, mask])
    result = Value(walk.shape, contract(walk, scores, value, (batch + "nm", batch + "mk", batch + "nk")).slots)
    _count(walk, [*_axes(result), (key, len(key.shape) - 2)], result)
    return result


def _repeated(value: Value, times: int) -> Value:
    """Give each head of keys or values to `times` heads of the queries, as grouped-query attention does."""
    shape = (*value.shape[:-3], value.shape[-3] * times, *value.shape[-2:])
    slots = (s.repeat_interleave(times, s.ndim - 3) if s.shape[-3] > 1 else s for s in value.slots)
    return Value(shape, tuple(slots))


@always("conv1d", "conv2d", "conv3d")
def convolution(
    walk: Propagation, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **named: Any
) -> Value:
    """Convolve; `rest` is stride, padding, dilation, groups."""
    return _convolve(walk, x, weight, bias, int(named.get("groups", rest[3] if len(rest) > 3 else 1)), transposed=False)


@always("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(
    walk: Propagation, x: Value, weight: Value, bias: Value | None = None, *rest: Any, **named: Any
) -> Value:
    """Convolve transposed; `rest` is stride, padding, output_padding, groups, dilation."""
    return _convolve(walk, x, weight, bias, int(named.get("groups", rest[3] if len(rest) > 3 else 1)), transposed=True)


@always("convolution")
def any_convolution(walk: Propagation, x: Value, weight: Value, bias: Value | None, *rest: Any) -> Value:
    """Convolve in the general form; `rest` is stride, padding, dilation, transposed, output_padding, groups."""
    return _convolve(walk, x, weight, bias, int(rest[5]), transposed=bool(rest[3]))


@always("torchvision::deform_conv2d")
def deformed_convolution(
    walk: Propagation, x: Value, weight: Value, offset: Value, mask: Value, bias: Value, *rest: Any
) -> Value:
    """Convolve at positions that another tensor moves; the last of `rest` are groups, offset groups, use of the mask.

    Offset groups stay: each keeps the channel at the same positions.
    """
    walk.lock((*offset.slots, *mask.slots), Lock(f"{walk.node.name} reads positions from it"))
    groups, offset_groups = int(rest[6]), int(rest[7])
    for slot in x.slots if offset_groups > 1 else ():
        _by_group(walk, slot, 1, False, offset_groups)
    return _convolve(walk, x, weight, bias, groups, transposed=False)


@always("bilinear")
def bilinear(walk: Propagation, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    """Sum the products of all pairs of entries of two tensors, weighted; the weight is stored (out, first, second)."""
    walk.starts.append(walk.node.name)
    free = "abcdefgh"[: len(x.shape) - 1]
    half = contract(walk, x, weight, (free + "i", "mij", free + "jm"))
    walk.every.append(half)
    result = contract(walk, half, y, (free + "jm", free + "j", free + "m"))
    if bias is not None:
        result = walk.join([result, bias])
    result = Value(walk.shape, result.slots)
    _count(walk, [*_axes(half), (weight, 1)], result)
    _count(walk, [*_axes(result), (weight, 2)], result)
    return result


def _convolve(
    walk: Propagation, x: Value, weight: Value, bias: Value | None, groups: int, *, transposed: bool
) -> Value:
    rank = len(weight.shape)
    if len(x.shape) != rank:
        refused: Value = walk.refuse([x, weight], f"{walk.node.name} convolves an input without batch axis")
        return refused
    space = range(2, rank)
    for value in (x, weight):
        for slot in value.slots:
            if walk.tie(slot, space).numel() == 1 and slot.numel() > 1:
                walk.labels.lock(slot, Lock(f"{walk.node.name} slides over its positions"))
    image = _channels(walk, x, space)
    kernel = _channels(walk, weight, space)
    if groups == 1:
        walk.starts.append(walk.node.name)
        flat = contract(walk, image, kernel, ("nk", "km" if transposed else "mk", "nm"))
    else:
        flat = _grouped(walk, image, kernel, groups, walk.shape[1], transposed=transposed)
    result = Value(walk.shape, tuple(slot.reshape((*slot.shape, *[1] * len(space))) for slot in flat.slots))
    if bias is not None:
        result = walk.join([result, along(bias, 1, rank)])
        result = Value(walk.shape, result.slots)
    kernel_axes = [(weight, axis) for axis in space]
    # one product per position of the image that is read (transposed) or written, and per channel of the other side
    positions = _axes(x) if transposed else _axes(result)
    _count(walk, [*positions, (weight, 1), *kernel_axes], result)
    return result


def _channels(walk: Propagation, value: Value, space: Sequence[int]) -> Value:
    """Drop the spatial axes: batch and channels are left, or the two channel axes of a kernel."""
    slots = (walk.tie(slot, space) for slot in value.slots)
    return Value(value.shape[:2], tuple(slot.reshape(slot.shape[:2]) for slot in slots if slot.numel() > 1))


def _grouped(
    walk: Propagation, image: Value, kernel: Value, groups: int, out_channels: int, *, transposed: bool
) -> Value:
    """Remove whole groups, or the channel at one position of every group; see `Policy.grouped`.

    The kernel's first axis holds the channels of all groups one after the other (of the output; transposed: of the
    input), its second axis those of one group on the other side.
    """
    n_images, per_group = image.shape[0], image.shape[1] // groups
    depthwise = groups == image.shape[1] == out_channels
    if depthwise:
        walk.carriers.add(walk.node.name)
    else:
        walk.starts.append(walk.node.name)
    whole = walk.policy.of_groups(walk.name_of(walk.node.args[1], walk.node), groups, per_group) == "groups"
    read = Value(
        (n_images, groups if whole else per_group), tuple(_by_group(walk, s, 1, whole, groups) for s in image.slots)
    )
    first, second = [], []
    for slot in kernel.slots:
        if slot.shape[0] > 1:
            first.append(_by_group(walk, slot, 0, whole, groups).reshape(1, -1))
        else:
            second.append(slot)
        if slot.shape[0] > 1 if whole else transposed == (slot.shape[0] == 1):
            walk.mark_produced([slot])
    if whole:
        walk.lock(second, Lock(f"{walk.node.name} is a grouped convolution that loses whole groups only"))
        slots = walk.join([read, Value((1, groups), tuple(first))], wait=False).slots
        for slot in slots if not depthwise else ():
            walk.labels.floor(slot, 2)  # with one group left it is an ordinary convolution
        wide = [slot.unsqueeze(2).expand(-1, -1, out_channels // groups) for slot in slots]
    else:
        summed, made = (first, second) if transposed else (second, first)
        walk.weigh(read.slots)
        for slot in walk.join([read, Value((1, per_group), tuple(summed))], wait=False).slots:
            walk.labels.floor(slot, 2)  # with one channel per group it is a depthwise convolution
        wide = [slot.unsqueeze(1).expand(-1, groups, -1) for slot in made]
    return Value((n_images, out_channels), tuple(compact(slot.reshape(slot.shape[0], -1)) for slot in wide))


def _by_group(walk: Propagation, slot: Tensor, axis: int, whole: bool, groups: int) -> Tensor:
    """Tie a slot along the positions in each group, or along the groups; return it with the other axis."""
    if slot.shape[axis] == 1:
        return slot
    by_group = slot.reshape(*slot.shape[:axis], groups, -1, *slot.shape[axis + 1 :])
    tied = axis + 1 if whole else axis
    return walk.tie(by_group, [tied]).squeeze(tied)


@rule("embedding")
def embedding(walk: Propagation, weight: Value, positions: Value, *_: Any, **__: Any) -> Value:
    """Look up rows: the rows stay, the features are channels that it produces."""
    walk.starts.append(walk.node.name)
    slots = []
    for slot in weight.slots:
        if slot.shape[0] > 1:
            walk.labels.lock(slot, Lock(f"{walk.node.name} looks its rows up"))
        else:
            walk.mark_produced([slot])
            slots.append(slot.reshape([1] * len(positions.shape) + [-1]))
    return Value(walk.shape, tuple(slots))


def _axes(value: Value) -> list[tuple[Value, int]]:
    return [(value, axis) for axis in range(len(value.shape))]


def _count(walk: Propagation, axes: Sequence[tuple[Value, int]], result: Value) -> None:
    walk.mac_terms.append(MacTerm(walk.node.name, tuple(axes), result))
