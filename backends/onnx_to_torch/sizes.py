"""Arithmetic on sizes: ONNX nodes whose inputs are shapes become Python integers in the generated code."""

from __future__ import annotations

import operator
from math import prod

import numpy as np
import torch
from torch import fx

from backends.onnx_to_torch import kernels
from backends.onnx_to_torch.node import Call, Int, Ints, Value, as_ints

__all__ = ["compute_sizes"]

_BINARY = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": kernels.quotient,
    "Mod": operator.mod,
    "Equal": operator.eq,
    "Greater": operator.gt,
    "Less": operator.lt,
    "GreaterOrEqual": operator.ge,
    "LessOrEqual": operator.le,
    "Max": max,
    "Min": min,
}
_INTEGERS = frozenset({torch.int64, torch.int32})


def compute_sizes(call: Call) -> Value | None:
    """Convert a node that computes sizes; return None if it works on tensors."""
    if call.op in ("Shape", "Size"):
        return _shape(call)
    sizes = [as_ints(value) for value in call.inputs]
    if not any(isinstance(value, Ints) for value in call.inputs) or any(item is None for item in sizes):
        return None
    return _on_sizes(call, [item for item in sizes if item is not None])


def _shape(call: Call) -> Value:
    shape = call.shape(0)
    items: list[Int] = [
        size if size is not None else call.emit(torch.Tensor.size, call.tensor(0), axis)
        for axis, size in enumerate(shape)
    ]
    if call.op == "Size":
        total = items[0] if items else 1
        for item in items[1:]:
            total = _apply(call, operator.mul, total, item)
        return Ints((total,), scalar=True)
    return Ints(tuple(items[call.attribute("start", 0) : call.attribute("end")]))


def _on_sizes(call: Call, sizes: list[Ints]) -> Value | None:
    first = sizes[0]
    if call.op in _BINARY and len(sizes) == 2 and not call.attribute("fmod", 0):
        return _binary(call, first, sizes[1])
    match call.op:
        case "Identity":
            return first
        case "Cast" if call.dtype(call.attribute("to")) in _INTEGERS:
            return first
        case "Neg":
            return Ints(tuple(_apply(call, operator.mul, item, -1) for item in first.items), first.scalar)
        case "Squeeze":
            return Ints(first.items, scalar=True) if len(first.items) == 1 else None
        case "Unsqueeze" | "Reshape":
            vector = first.scalar if call.op == "Unsqueeze" else len(sizes[1].items) == 1
            return Ints(first.items) if vector else None
        case "Concat":
            return Ints(tuple(item for part in sizes for item in part.items))
        case "Gather":
            at = [item for item in sizes[1].items if isinstance(item, int)]
            if len(at) != len(sizes[1].items) or first.scalar:
                return None
            return Ints(tuple(first.items[index] for index in at), sizes[1].scalar)
        case "Slice":
            start, end = call.static(1)[0], call.static(2)[0]
            step = call.static(4)[0] if call.has(4) else 1
            return Ints(first.items[start:end:step])
        case "ReduceProd" if all(isinstance(item, int) for item in first.items):
            value = prod(item for item in first.items if isinstance(item, int))
            return Ints((value,), scalar=not call.attribute("keepdims", 1))
        case "Where":
            return _where(call, sizes)
    return None


def _binary(call: Call, left: Ints, right: Ints) -> Value | None:
    length = max(len(left.items), len(right.items))
    if {len(left.items), len(right.items)} - {1, length}:
        return None
    pairs = zip(_spread(left, length), _spread(right, length), strict=True)
    items = tuple(_apply(call, _BINARY[call.op], a, b) for a, b in pairs)
    return Ints(items, scalar=left.scalar and right.scalar)


def _where(call: Call, sizes: list[Ints]) -> Value:
    length = max(len(part.items) for part in sizes)
    columns = [_spread(part, length) for part in sizes]
    items = tuple(_apply(call, kernels.pick, *row) for row in zip(*columns, strict=True))
    return Ints(items, scalar=all(part.scalar for part in sizes))


def _spread(sizes: Ints, length: int) -> tuple[Int, ...]:
    return sizes.items * length if len(sizes.items) == 1 else sizes.items


def _apply(call: Call, function: object, *args: Int) -> Int:
    assert callable(function)
    if any(isinstance(arg, fx.Node) for arg in args):
        return call.emit(function, *args)
    try:
        return int(np.int64(function(*args)))
    except (ZeroDivisionError, OverflowError) as error:
        raise call.refuse(f"sizes {', '.join(map(str, args))}") from error
