"""Operators that create, reshape, concatenate, split and rearrange tensors."""

from __future__ import annotations

import operator

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from backends.onnx_to_torch import kernels
from backends.onnx_to_torch.node import Call, Ints, Value, as_ints
from backends.onnx_to_torch.operators.table import OperatorTable

__all__ = ["TABLE"]

TABLE = OperatorTable()


@TABLE.add("Identity", "Dropout")
def _identity(call: Call) -> Value:
    if call.op == "Dropout" and call.n_outputs > 1:
        raise call.refuse("the mask as a second output")
    value = call.inputs[0]
    assert value is not None
    return value


@TABLE.add("Constant")
def _constant(call: Call) -> Value:
    (name, value), *_ = call.attributes.items()
    if name == "value":
        return onnx.numpy_helper.to_array(value)
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name not in types:
        raise call.refuse(f"attribute {name}")
    return np.array(value, types[name])


@TABLE.add("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    tensor = call.attribute("value")
    value = np.zeros(1, np.float32) if tensor is None else onnx.numpy_helper.to_array(tensor)
    shape = call.ints(0)
    if all(isinstance(item, int) for item in shape):
        return np.full([item for item in shape if isinstance(item, int)], value[0], value.dtype)
    dtype = call.dtype(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    return call.emit(torch.full, shape, value[0].item(), dtype=dtype)


@TABLE.add("Range")
def _range(call: Call) -> Value:
    start, end, step = (as_ints(value) for value in call.inputs)
    if start is None or end is None or step is None:
        raise call.refuse("bounds computed from data")
    return call.emit(torch.arange, start.items[0], end.items[0], step.items[0], dtype=torch.int64)


@TABLE.add("Cast", "CastLike")
def _cast(call: Call) -> Value:
    if call.op == "CastLike":
        return call.emit(torch.Tensor.type_as, call.tensor(0), call.tensor(1))
    return call.emit(torch.Tensor.to, call.tensor(0), call.dtype(call.attribute("to")))


@TABLE.add("Reshape")
def _reshape(call: Call) -> Value:
    shape = call.ints(1)
    if not call.attribute("allowzero", 0):
        shape = [
            call.emit(torch.Tensor.size, call.tensor(0), axis) if isinstance(size, int) and size == 0 else size
            for axis, size in enumerate(shape)
        ]
    return call.emit(torch.reshape, call.tensor(0), shape)


@TABLE.add("Flatten")
def _flatten(call: Call) -> Value:
    axis = call.attribute("axis", 1)
    if axis == 1:
        return call.emit(torch.flatten, call.tensor(0), 1)
    return call.emit(kernels.flatten, call.tensor(0), axis)


@TABLE.add("Squeeze")
def _squeeze(call: Call) -> Value:
    if not call.has(1):
        return call.emit(torch.squeeze, call.tensor(0))
    return call.emit(torch.squeeze, call.tensor(0), tuple(call.static(1)))


@TABLE.add("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    axes = call.static(1)
    rank = len(call.shape(0)) + len(axes)
    result = call.tensor(0)
    for axis in sorted(axis % rank for axis in axes):
        result = call.emit(torch.unsqueeze, result, axis)
    return result


@TABLE.add("Transpose")
def _transpose(call: Call) -> Value:
    order = call.attribute("perm") or list(reversed(range(len(call.shape(0)))))
    return call.emit(torch.permute, call.tensor(0), list(order))


@TABLE.add("Expand")
def _expand(call: Call) -> Value:
    return call.emit(kernels.expand, call.tensor(0), call.ints(1))


@TABLE.add("Tile")
def _tile(call: Call) -> Value:
    return call.emit(kernels.tile, call.tensor(0), call.ints(1))


@TABLE.add("Concat")
def _concat(call: Call) -> Value:
    parts = [call.tensor(index) for index in range(len(call.inputs))]
    return call.emit(torch.cat, parts, call.attribute("axis"))


@TABLE.add("Split")
def _split(call: Call) -> tuple[Value, ...]:
    axis = call.attribute("axis", 0)
    if call.has(1):
        sizes = call.ints(1)
    else:
        total = call.shape(0)[axis]
        if total is None:
            raise call.refuse("equal parts of a free dimension")
        n = call.attribute("num_outputs", call.n_outputs)
        chunk = -(-total // n)
        sizes = [*[chunk] * (n - 1), total - chunk * (n - 1)]
    parts = call.emit(torch.split, call.tensor(0), sizes, axis)
    return tuple(call.emit(operator.getitem, parts, index) for index in range(call.n_outputs))


@TABLE.add("Slice")
def _slice(call: Call) -> Value:
    starts, ends = call.ints(1), call.ints(2)
    axes = call.static(3) if call.has(3) else list(range(len(starts)))
    steps = call.static(4) if call.has(4) else [1] * len(starts)
    return call.emit(kernels.slice_axes, call.tensor(0), starts, ends, axes, steps)


@TABLE.add("Gather")
def _gather(call: Call) -> Value:
    axis = call.attribute("axis", 0)
    at = call.inputs[1]
    if isinstance(at, np.ndarray) and at.ndim == 0:
        return call.emit(torch.select, call.tensor(0), axis, int(at))
    if isinstance(at, Ints) and at.scalar:
        return call.emit(torch.select, call.tensor(0), axis, at.items[0])
    return call.emit(kernels.gather, call.tensor(0), call.tensor(1), axis)


@TABLE.add("GatherND")
def _gather_nd(call: Call) -> Value:
    if call.attribute("batch_dims", 0):
        raise call.refuse("batch_dims")
    return call.emit(kernels.gather_nd, call.tensor(0), call.tensor(1))


@TABLE.add("ScatterND")
def _scatter_nd(call: Call) -> Value:
    reduction = call.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise call.refuse(f"reduction {reduction!r}")
    return call.emit(kernels.scatter_nd, call.tensor(0), call.tensor(1), call.tensor(2), reduction)


@TABLE.add("GatherElements")
def _gather_elements(call: Call) -> Value:
    return call.emit(torch.gather, call.tensor(0), call.attribute("axis", 0), call.tensor(1))


@TABLE.add("Trilu")
def _triangle(call: Call) -> Value:
    function = torch.triu if call.attribute("upper", 1) else torch.tril
    return call.emit(function, call.tensor(0), call.static(1)[0] if call.has(1) else 0)


@TABLE.add("Pad")
def _pad(call: Call) -> Value:
    value = call.constant(2).item() if call.has(2) else 0.0
    axes = call.static(3) if call.has(3) else None
    return call.emit(kernels.pad, call.tensor(0), call.ints(1), axes, call.attribute("mode", "constant"), value)


@TABLE.add("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    column_first = call.attribute("mode", "DCR") == "CRD"
    return call.emit(kernels.depth_to_space, call.tensor(0), call.attribute("blocksize"), column_first)


@TABLE.add("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    return call.emit(kernels.space_to_depth, call.tensor(0), call.attribute("blocksize"))


@TABLE.add("Resize")
def _resize(call: Call) -> Value:
    rank = len(call.shape(0))
    mode = call.attribute("mode", "nearest")
    place = call.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = call.attribute("nearest_mode", "round_prefer_floor")
    known = {("linear", "half_pixel"), ("linear", "pytorch_half_pixel"), ("linear", "align_corners")}
    known |= {("cubic", "half_pixel"), ("cubic", "pytorch_half_pixel"), ("cubic", "align_corners")}
    nearest = (mode, place, rounding) == ("nearest", "asymmetric", "floor")
    if (
        not (nearest or (mode, place) in known)
        or (mode == "cubic" and abs(call.attribute("cubic_coeff_a", -0.75) + 0.75) > 1e-6)
        or any(call.attribute(name) for name in ("antialias", "exclude_outside", "axes"))
        or call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise call.refuse(f"mode {mode!r} with {place!r} and {rounding!r}")
    names = {3: "linear", 4: "bilinear", 5: "trilinear"} if mode == "linear" else {4: "bicubic"}
    if mode != "nearest" and rank not in names:
        raise call.refuse(f"mode {mode!r} on {rank} axes")
    settings: dict[str, object] = {"mode": "nearest" if mode == "nearest" else names[rank]}
    if mode != "nearest":
        settings["align_corners"] = place == "align_corners"
    if call.has(3):
        return call.emit(F.interpolate, call.tensor(0), size=call.ints(3)[2:], **settings)
    scales = [float(item) for item in call.constant(2)]
    if scales[:2] != [1.0, 1.0]:
        raise call.refuse("scales of batch or channels")
    return call.emit(F.interpolate, call.tensor(0), scale_factor=scales[2:], recompute_scale_factor=False, **settings)
