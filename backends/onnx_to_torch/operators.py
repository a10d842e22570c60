"""The table of ONNX operators (opset 13 and later) the torch backends know, each written as torch calls."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from backends.onnx_to_torch import kernels as kernels
from backends.onnx_to_torch.convert import Call, Ints, Value, as_ints

__all__ = ["TABLE"]

Operator: TypeAlias = Callable[[Call], Value | tuple[Value, ...]]

TABLE: dict[str, Operator] = {}


def _operator(*names: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def _elementwise(function: Callable[..., Any]) -> Operator:
    return lambda call: call.emit(function, *(call.tensor(index) for index in range(len(call.inputs))))


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Div": kernels.divide,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": F.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
TABLE.update({name: _elementwise(function) for name, function in _ELEMENTWISE.items()})


# --- layers with weights -------------------------------------------------------------------------------------------


def _window(call: Call, rank: int) -> tuple[list[int], list[int], list[int] | None, bool]:
    """Read strides, dilations, pads (None: as SAME) and whether SAME pads more at the end."""
    strides = list(call.attribute("strides", [1] * rank))
    dilations = list(call.attribute("dilations", [1] * rank))
    match call.attribute("auto_pad", "NOTSET"):
        case "NOTSET":
            return strides, dilations, list(call.attribute("pads", [0] * 2 * rank)), True
        case "VALID":
            return strides, dilations, [0] * 2 * rank, True
        case mode:
            return strides, dilations, None, mode == "SAME_UPPER"


def _even(pads: list[int] | None) -> list[int] | None:
    """Give the padding of each axis when both ends have the same."""
    half = len(pads) // 2 if pads else 0
    return pads[:half] if pads is not None and pads[:half] == pads[half:] else None


@_operator("Conv")
def _conv(call: Call) -> Value:
    rank = len(call.shape(1)) - 2
    if not 1 <= rank <= 3:
        raise call.refuse(f"{rank} spatial axes")
    strides, dilations, pads, upper = _window(call, rank)
    groups = call.attribute("group", 1)
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    if (padding := _even(pads)) is not None:
        function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
        return call.emit(function, x, weight, bias, strides, padding, dilations, groups)
    return call.emit(kernels.convolution, x, weight, bias, strides, dilations, groups, pads, upper)


@_operator("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    rank = len(call.shape(1)) - 2
    strides, dilations, pads, _ = _window(call, rank)
    if pads is None or call.attribute("output_shape"):
        raise call.refuse("auto_pad or output_shape")
    extra = list(call.attribute("output_padding", [0] * rank))
    groups = call.attribute("group", 1)
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    return call.emit(kernels.convolution_transpose, x, weight, bias, strides, dilations, groups, pads, extra)


@_operator("Gemm")
def _gemm(call: Call) -> Value:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    transpose_a, transpose_b = bool(call.attribute("transA", 0)), bool(call.attribute("transB", 0))
    plain = alpha == beta == 1 and not transpose_a
    if plain and (not call.has(2) or len(call.shape(2)) == 1):
        if transpose_b:
            return call.emit(F.linear, call.tensor(0), call.tensor(1), call.optional(2))
        if (weight := _transposed_weight(call)) is not None:
            return call.emit(F.linear, call.tensor(0), weight, call.optional(2))
    a, b, c = call.tensor(0), call.tensor(1), call.optional(2)
    return call.emit(kernels.gemm, a, b, c, alpha, beta, transpose_a, transpose_b)


def _transposed_weight(call: Call) -> fx.Node | None:
    """Store a constant (in, out) matrix as a linear layer does: (out, in)."""
    value = call.inputs[1]
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        return None
    return call.buffer(np.ascontiguousarray(value.T), f"{call.input_names[1]}.T")


@_operator("MatMul")
def _matmul(call: Call) -> Value:
    if (weight := _transposed_weight(call)) is not None and len(call.shape(0)) > 1:
        return call.emit(F.linear, call.tensor(0), weight, None)
    return call.emit(torch.matmul, call.tensor(0), call.tensor(1))


@_operator("Einsum")
def _einsum(call: Call) -> Value:
    operands = [call.tensor(index) for index in range(len(call.inputs))]
    return call.emit(torch.einsum, call.attribute("equation"), *operands)


@_operator("Attention")
def _attention(call: Call) -> Value:
    known = {"scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap", "qk_matmul_output_mode"}
    if len(call.shape(0)) != 4 or call.n_outputs > 1 or call.has(4) or call.attribute("softcap", 0.0):
        raise call.refuse("3-D inputs, a cache or a soft cap")
    if call.attributes.keys() - known:
        raise call.refuse(f"attribute {min(call.attributes.keys() - known)}")
    return call.emit(
        F.scaled_dot_product_attention,
        *(call.tensor(index) for index in range(3)),
        attn_mask=call.optional(3),
        is_causal=bool(call.attribute("is_causal", 0)),
        scale=call.attribute("scale"),
    )


# --- normalisation -------------------------------------------------------------------------------------------------


@_operator("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.attribute("training_mode", 0):
        raise call.refuse("training mode")
    x, scale, bias, mean, variance = (call.tensor(index) for index in range(5))
    return call.emit(F.batch_norm, x, mean, variance, scale, bias, training=False, eps=call.attribute("epsilon", 1e-5))


@_operator("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    x, scale, bias = (call.tensor(index) for index in range(3))
    return call.emit(F.instance_norm, x, weight=scale, bias=bias, eps=call.attribute("epsilon", 1e-5))


@_operator("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    if call.n_outputs > 1:
        raise call.refuse("more than one output")
    shape = _normalised(call)
    return call.emit(
        F.layer_norm, call.tensor(0), shape, call.tensor(1), call.optional(2), call.attribute("epsilon", 1e-5)
    )


@_operator("RMSNormalization")
def _rms_norm(call: Call) -> Value:
    shape = _normalised(call)
    return call.emit(F.rms_norm, call.tensor(0), shape, call.tensor(1), call.attribute("epsilon", 1e-5))


def _normalised(call: Call) -> list[int]:
    axis = call.attribute("axis", -1)
    shape = call.shape(0)[axis:]
    if None in shape or shape != call.shape(1):
        raise call.refuse("a free or broadcast normalised shape")
    return [size for size in shape if size is not None]


@_operator("GroupNormalization")
def _group_norm(call: Call) -> Value:
    groups, epsilon = call.attribute("num_groups"), call.attribute("epsilon", 1e-5)
    x, scale, bias = (call.tensor(index) for index in range(3))
    return call.emit(F.group_norm, x, groups, scale, bias, epsilon)


@_operator("LpNormalization")
def _lp_norm(call: Call) -> Value:
    return call.emit(kernels.lp_normalise, call.tensor(0), call.attribute("p", 2), call.attribute("axis", -1))


@_operator("LRN")
def _local_response_norm(call: Call) -> Value:
    size = call.attribute("size")
    values = (call.attribute("alpha", 1e-4), call.attribute("beta", 0.75), call.attribute("bias", 1.0))
    return call.emit(F.local_response_norm, call.tensor(0), size, *values)


# --- activations ---------------------------------------------------------------------------------------------------


@_operator("Clip")
def _clip(call: Call) -> Value:
    bounds: list[float | fx.Node | None] = []
    for index in (1, 2):
        constant = isinstance(call.inputs[index], np.ndarray) if call.has(index) else False
        bounds.append(call.constant(index).item() if constant else call.optional(index))
    low, high = bounds
    if low is None and high is None:
        return call.tensor(0)
    return call.emit(torch.clamp, call.tensor(0), low, high)


@_operator("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    return call.emit(F.leaky_relu, call.tensor(0), call.attribute("alpha", 0.01))


@_operator("PRelu")
def _prelu(call: Call) -> Value:
    return call.emit(kernels.parametric_relu, call.tensor(0), call.tensor(1))


@_operator("Elu")
def _elu(call: Call) -> Value:
    return call.emit(F.elu, call.tensor(0), call.attribute("alpha", 1.0))


@_operator("Celu")
def _celu(call: Call) -> Value:
    return call.emit(F.celu, call.tensor(0), call.attribute("alpha", 1.0))


@_operator("Selu")
def _selu(call: Call) -> Value:
    if "alpha" in call.attributes or "gamma" in call.attributes:
        raise call.refuse("another alpha or gamma")
    return call.emit(F.selu, call.tensor(0))


@_operator("ThresholdedRelu")
def _thresholded_relu(call: Call) -> Value:
    return call.emit(F.threshold, call.tensor(0), call.attribute("alpha", 1.0), 0.0)


@_operator("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.emit(F.hardsigmoid, call.tensor(0))
    return call.emit(kernels.hard_sigmoid, call.tensor(0), alpha, beta)


@_operator("Gelu")
def _gelu(call: Call) -> Value:
    return call.emit(F.gelu, call.tensor(0), approximate=call.attribute("approximate", "none"))


@_operator("Swish")
def _swish(call: Call) -> Value:
    alpha = call.attribute("alpha", 1.0)
    if alpha != 1:
        raise call.refuse("another alpha")
    return call.emit(F.silu, call.tensor(0))


@_operator("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Value:
    function = F.softmax if call.op == "Softmax" else F.log_softmax
    return call.emit(function, call.tensor(0), call.attribute("axis", -1))


# --- pooling and reduction -----------------------------------------------------------------------------------------


@_operator("MaxPool")
def _max_pool(call: Call) -> Value:
    if call.n_outputs > 1 or call.attribute("storage_order", 0):
        raise call.refuse("indices as a second output")
    kernel = list(call.attribute("kernel_shape"))
    strides, dilations, pads, upper = _window(call, len(kernel))
    ceil_mode = bool(call.attribute("ceil_mode", 0))
    padding = _even(pads)
    if padding is not None and all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True)):
        function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
        return call.emit(function, call.tensor(0), kernel, strides, padding, dilations, ceil_mode)
    return call.emit(kernels.max_pool, call.tensor(0), kernel, strides, dilations, pads, upper, ceil_mode)


@_operator("AveragePool")
def _average_pool(call: Call) -> Value:
    kernel = list(call.attribute("kernel_shape"))
    strides, dilations, pads, upper = _window(call, len(kernel))
    if any(dilation != 1 for dilation in dilations):
        raise call.refuse("dilations")
    ceil_mode, count_pad = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    padding = _even(pads)
    if padding is not None and all(2 * pad <= size for pad, size in zip(padding, kernel, strict=True)):
        function = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
        return call.emit(function, call.tensor(0), kernel, strides, padding, ceil_mode, count_pad)
    return call.emit(kernels.average_pool, call.tensor(0), kernel, strides, pads, upper, ceil_mode, count_pad)


@_operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call) -> Value:
    return call.emit(kernels.global_pool, call.tensor(0), call.op == "GlobalMaxPool")


@_operator(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def _reduce(call: Call) -> Value:
    axes = call.static(1) if call.has(1) else call.attribute("axes")
    axes = list(axes) if axes is not None and len(axes) else None
    if axes is None and call.attribute("noop_with_empty_axes", 0):
        return call.tensor(0)
    keep = bool(call.attribute("keepdims", 1))
    if call.op == "ReduceMean" and axes is not None:
        return call.emit(torch.mean, call.tensor(0), axes, keep)
    return call.emit(kernels.reduce, call.tensor(0), call.op, axes, keep)


@_operator("ArgMax", "ArgMin")
def _arg_extreme(call: Call) -> Value:
    if call.attribute("select_last_index", 0):
        raise call.refuse("select_last_index")
    function = torch.argmax if call.op == "ArgMax" else torch.argmin
    return call.emit(function, call.tensor(0), call.attribute("axis", 0), bool(call.attribute("keepdims", 1)))


@_operator("TopK")
def _top_k(call: Call) -> tuple[Value, ...]:
    ordered = bool(call.attribute("sorted", 1))
    (k,) = call.ints(1)
    largest = bool(call.attribute("largest", 1))
    both = call.emit(kernels.top_k, call.tensor(0), k, call.attribute("axis", -1), largest, ordered)
    return call.emit(operator.getitem, both, 0), call.emit(operator.getitem, both, 1)


@_operator("CumSum")
def _cumulative_sum(call: Call) -> Value:
    if call.attribute("exclusive", 0) or call.attribute("reverse", 0):
        raise call.refuse("exclusive or reverse sums")
    return call.emit(torch.cumsum, call.tensor(0), call.static(1)[0])


@_operator("Max", "Min", "Sum", "Mean")
def _variadic(call: Call) -> Value:
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(call.op, torch.add)
    total = call.tensor(0)
    for index in range(1, len(call.inputs)):
        total = call.emit(function, total, call.tensor(index))
    return call.emit(torch.div, total, len(call.inputs)) if call.op == "Mean" else total


@_operator("Mod")
def _modulo(call: Call) -> Value:
    return call.emit(torch.fmod if call.attribute("fmod", 0) else torch.remainder, call.tensor(0), call.tensor(1))


# --- shape and place -----------------------------------------------------------------------------------------------


@_operator("Identity", "Dropout")
def _identity(call: Call) -> Value:
    if call.op == "Dropout" and call.n_outputs > 1:
        raise call.refuse("the mask as a second output")
    value = call.inputs[0]
    assert value is not None
    return value


@_operator("Constant")
def _constant(call: Call) -> Value:
    import onnx

    (name, value), *_ = call.attributes.items()
    if name == "value":
        return onnx.numpy_helper.to_array(value)
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name not in types:
        raise call.refuse(f"attribute {name}")
    return np.array(value, types[name])


@_operator("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    import onnx

    tensor = call.attribute("value")
    value = np.zeros(1, np.float32) if tensor is None else onnx.numpy_helper.to_array(tensor)
    shape = call.ints(0)
    if all(isinstance(item, int) for item in shape):
        return np.full([item for item in shape if isinstance(item, int)], value[0], value.dtype)
    dtype = call.dtype(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    return call.emit(torch.full, shape, value[0].item(), dtype=dtype)


@_operator("Range")
def _range(call: Call) -> Value:
    start, end, step = (as_ints(value) for value in call.inputs)
    if start is None or end is None or step is None:
        raise call.refuse("bounds computed from data")
    return call.emit(torch.arange, start.items[0], end.items[0], step.items[0], dtype=torch.int64)


@_operator("Cast", "CastLike")
def _cast(call: Call) -> Value:
    if call.op == "CastLike":
        return call.emit(torch.Tensor.type_as, call.tensor(0), call.tensor(1))
    return call.emit(torch.Tensor.to, call.tensor(0), call.dtype(call.attribute("to")))


@_operator("Reshape")
def _reshape(call: Call) -> Value:
    shape = call.ints(1)
    if not call.attribute("allowzero", 0):
        shape = [
            call.emit(torch.Tensor.size, call.tensor(0), axis) if isinstance(size, int) and size == 0 else size
            for axis, size in enumerate(shape)
        ]
    return call.emit(torch.reshape, call.tensor(0), shape)


@_operator("Flatten")
def _flatten(call: Call) -> Value:
    axis = call.attribute("axis", 1)
    if axis == 1:
        return call.emit(torch.flatten, call.tensor(0), 1)
    return call.emit(kernels.flatten, call.tensor(0), axis)


@_operator("Squeeze")
def _squeeze(call: Call) -> Value:
    if not call.has(1):
        return call.emit(torch.squeeze, call.tensor(0))
    return call.emit(torch.squeeze, call.tensor(0), tuple(call.static(1)))


@_operator("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    axes = call.static(1)
    rank = len(call.shape(0)) + len(axes)
    result = call.tensor(0)
    for axis in sorted(axis % rank for axis in axes):
        result = call.emit(torch.unsqueeze, result, axis)
    return result


@_operator("Transpose")
def _transpose(call: Call) -> Value:
    order = call.attribute("perm") or list(reversed(range(len(call.shape(0)))))
    return call.emit(torch.permute, call.tensor(0), list(order))


@_operator("Expand")
def _expand(call: Call) -> Value:
    return call.emit(kernels.expand, call.tensor(0), call.ints(1))


@_operator("Tile")
def _tile(call: Call) -> Value:
    return call.emit(kernels.tile, call.tensor(0), call.ints(1))


@_operator("Concat")
def _concat(call: Call) -> Value:
    parts = [call.tensor(index) for index in range(len(call.inputs))]
    return call.emit(torch.cat, parts, call.attribute("axis"))


@_operator("Split")
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


@_operator("Slice")
def _slice(call: Call) -> Value:
    starts, ends = call.ints(1), call.ints(2)
    axes = call.static(3) if call.has(3) else list(range(len(starts)))
    steps = call.static(4) if call.has(4) else [1] * len(starts)
    return call.emit(kernels.slice_axes, call.tensor(0), starts, ends, axes, steps)


@_operator("Gather")
def _gather(call: Call) -> Value:
    axis = call.attribute("axis", 0)
    at = call.inputs[1]
    if isinstance(at, np.ndarray) and at.ndim == 0:
        return call.emit(torch.select, call.tensor(0), axis, int(at))
    if isinstance(at, Ints) and at.scalar:
        return call.emit(torch.select, call.tensor(0), axis, at.items[0])
    return call.emit(kernels.gather, call.tensor(0), call.tensor(1), axis)


@_operator("GatherND")
def _gather_nd(call: Call) -> Value:
    if call.attribute("batch_dims", 0):
        raise call.refuse("batch_dims")
    return call.emit(kernels.gather_nd, call.tensor(0), call.tensor(1))


@_operator("ScatterND")
def _scatter_nd(call: Call) -> Value:
    reduction = call.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise call.refuse(f"reduction {reduction!r}")
    return call.emit(kernels.scatter_nd, call.tensor(0), call.tensor(1), call.tensor(2), reduction)


@_operator("GatherElements")
def _gather_elements(call: Call) -> Value:
    return call.emit(torch.gather, call.tensor(0), call.attribute("axis", 0), call.tensor(1))


@_operator("Trilu")
def _triangle(call: Call) -> Value:
    function = torch.triu if call.attribute("upper", 1) else torch.tril
    return call.emit(function, call.tensor(0), call.static(1)[0] if call.has(1) else 0)


@_operator("Pad")
def _pad(call: Call) -> Value:
    value = call.constant(2).item() if call.has(2) else 0.0
    axes = call.static(3) if call.has(3) else None
    return call.emit(kernels.pad, call.tensor(0), call.ints(1), axes, call.attribute("mode", "constant"), value)


@_operator("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    column_first = call.attribute("mode", "DCR") == "CRD"
    return call.emit(kernels.depth_to_space, call.tensor(0), call.attribute("blocksize"), column_first)


@_operator("SpaceToDepth")
def _space_to_depth(call: Call) -> Value:
    return call.emit(kernels.space_to_depth, call.tensor(0), call.attribute("blocksize"))


@_operator("Resize")
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
