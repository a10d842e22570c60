"""Layers: convolution, matrix product, attention, normalisation and pooling."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx

from backends.onnx_to_torch import kernels
from backends.onnx_to_torch.node import Call, Value
from backends.onnx_to_torch.operators.table import OperatorTable

__all__ = ["TABLE"]

TABLE = OperatorTable()


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
    """Return the padding of each axis if both its ends are equal, else None."""
    half = len(pads) // 2 if pads else 0
    return pads[:half] if pads is not None and pads[:half] == pads[half:] else None


@TABLE.add("Conv")
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


@TABLE.add("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    rank = len(call.shape(1)) - 2
    strides, dilations, pads, _ = _window(call, rank)
    if pads is None or call.attribute("output_shape"):
        raise call.refuse("auto_pad or output_shape")
    extra = list(call.attribute("output_padding", [0] * rank))
    groups = call.attribute("group", 1)
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    return call.emit(kernels.convolution_transpose, x, weight, bias, strides, dilations, groups, pads, extra)


@TABLE.add("Gemm")
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


@TABLE.add("MatMul")
def _matmul(call: Call) -> Value:
    if (weight := _transposed_weight(call)) is not None and len(call.shape(0)) > 1:
        return call.emit(F.linear, call.tensor(0), weight, None)
    return call.emit(torch.matmul, call.tensor(0), call.tensor(1))


@TABLE.add("Einsum")
def _einsum(call: Call) -> Value:
    operands = [call.tensor(index) for index in range(len(call.inputs))]
    return call.emit(torch.einsum, call.attribute("equation"), *operands)


@TABLE.add("Attention")
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


@TABLE.add("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.attribute("training_mode", 0):
        raise call.refuse("training mode")
    x, scale, bias, mean, variance = (call.tensor(index) for index in range(5))
    return call.emit(F.batch_norm, x, mean, variance, scale, bias, training=False, eps=call.attribute("epsilon", 1e-5))


@TABLE.add("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    x, scale, bias = (call.tensor(index) for index in range(3))
    return call.emit(F.instance_norm, x, weight=scale, bias=bias, eps=call.attribute("epsilon", 1e-5))


@TABLE.add("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    if call.n_outputs > 1:
        raise call.refuse("more than one output")
    shape = _normalised(call)
    return call.emit(
        F.layer_norm, call.tensor(0), shape, call.tensor(1), call.optional(2), call.attribute("epsilon", 1e-5)
    )


@TABLE.add("RMSNormalization")
def _rms_norm(call: Call) -> Value:
    shape = _normalised(call)
    return call.emit(F.rms_norm, call.tensor(0), shape, call.tensor(1), call.attribute("epsilon", 1e-5))


def _normalised(call: Call) -> list[int]:
    axis = call.attribute("axis", -1)
    shape = call.shape(0)[axis:]
    if None in shape or shape != call.shape(1):
        raise call.refuse("a free or broadcast normalised shape")
    return [size for size in shape if size is not None]


@TABLE.add("GroupNormalization")
def _group_norm(call: Call) -> Value:
    groups, epsilon = call.attribute("num_groups"), call.attribute("epsilon", 1e-5)
    x, scale, bias = (call.tensor(index) for index in range(3))
    return call.emit(F.group_norm, x, groups, scale, bias, epsilon)


@TABLE.add("LpNormalization")
def _lp_norm(call: Call) -> Value:
    return call.emit(kernels.lp_normalise, call.tensor(0), call.attribute("p", 2), call.attribute("axis", -1))


@TABLE.add("LRN")
def _local_response_norm(call: Call) -> Value:
    size = call.attribute("size")
    values = (call.attribute("alpha", 1e-4), call.attribute("beta", 0.75), call.attribute("bias", 1.0))
    return call.emit(F.local_response_norm, call.tensor(0), size, *values)


# --- pooling -------------------------------------------------------------------------------------------------------


@TABLE.add("MaxPool")
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


@TABLE.add("AveragePool")
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


@TABLE.add("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call) -> Value:
    return call.emit(kernels.global_pool, call.tensor(0), call.op == "GlobalMaxPool")
