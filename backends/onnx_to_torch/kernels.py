"""ONNX operators without a single torch equivalent, written in torch.

Imported only by the converter, so only where torch is used. Shapes follow ONNX: (N, C, d1, ..., dn).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "average_pool",
    "concat_ints",
    "convolution",
    "convolution_transpose",
    "depth_to_space",
    "divide",
    "expand",
    "flatten",
    "gather",
    "gather_nd",
    "gemm",
    "global_pool",
    "hard_sigmoid",
    "lp_normalise",
    "max_pool",
    "pad",
    "parametric_relu",
    "pick",
    "reduce",
    "same_pads",
    "scatter_nd",
    "slice_axes",
    "space_to_depth",
    "tile",
    "top_k",
]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], upper: bool
) -> list[int]:
    """Return ONNX pads (all begins, then all ends) that give ceil(size / stride) outputs."""
    begins, ends = [], []
    for size, window, step, spread in zip(sizes, kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // step) - 1) * step + (window - 1) * spread + 1 - size)
        small = total // 2
        begins.append(small if upper else total - small)
        ends.append(total - small if upper else small)
    return begins + ends


def _torch_padding(pads: Sequence[int]) -> list[int]:
    """Turn ONNX pads into the order of ``F.pad``: last axis first, begin and end side by side."""
    n = len(pads) // 2
    return [value for axis in reversed(range(n)) for value in (pads[axis], pads[axis + n])]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    dilation: list[int],
    groups: int,
    pads: list[int] | None,
    upper: bool,
) -> Tensor:
    """Convolve with uneven padding, or padded as ``SAME_UPPER``/``SAME_LOWER`` (`pads` None)."""
    if pads is None:
        pads = same_pads(x.shape[2:], weight.shape[2:], stride, dilation, upper)
    padded = F.pad(x, _torch_padding(pads))
    return _CONVOLUTIONS[x.dim() - 2](padded, weight, bias, stride, 0, dilation, groups)


def convolution_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    dilation: list[int],
    groups: int,
    pads: list[int],
    output_padding: list[int],
) -> Tensor:
    """Apply a transposed convolution; uneven `pads` are cropped from the full result."""
    n = len(stride)
    if pads[:n] == pads[n:]:
        return _TRANSPOSED[n](x, weight, bias, stride, pads[:n], output_padding, groups, dilation)
    full = _TRANSPOSED[n](x, weight, bias, stride, 0, output_padding, groups, dilation)
    for axis in range(n):
        full = full.narrow(axis + 2, pads[axis], full.size(axis + 2) - pads[axis] - pads[axis + n])
    return full


def max_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    dilation: list[int],
    pads: list[int] | None,
    upper: bool,
    ceil_mode: bool,
) -> Tensor:
    """Apply max pooling; padding never wins."""
    if pads is None:
        pads = same_pads(x.shape[2:], kernel, stride, dilation, upper)
    lowest = -float("inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    padded = F.pad(x, _torch_padding(pads), value=lowest)
    return _MAX_POOLS[len(kernel)](padded, kernel, stride, 0, dilation, ceil_mode)


def average_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int] | None,
    upper: bool,
    ceil_mode: bool,
    count_pad: bool,
) -> Tensor:
    """Average over windows with uneven padding; `count_pad` says whether the padding counts."""
    if pads is None:
        pads = same_pads(x.shape[2:], kernel, stride, [1] * len(kernel), upper)
    pool = _AVERAGE_POOLS[len(kernel)]
    padding = _torch_padding(pads)
    total = pool(F.pad(x, padding), kernel, stride, 0, ceil_mode)
    if count_pad:
        return total
    inside = F.pad(torch.ones_like(x[:1, :1]), padding)
    return total / pool(inside, kernel, stride, 0, ceil_mode)


def global_pool(x: Tensor, largest: bool) -> Tensor:
    """Pool all spatial axes to size 1."""
    axes = tuple(range(2, x.dim()))
    return torch.amax(x, axes, keepdim=True) if largest else torch.mean(x, axes, keepdim=True)


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float, transpose_a: bool, transpose_b: bool
) -> Tensor:
    """Compute alpha * op(a) @ op(b) + beta * c."""
    product = torch.matmul(a.t() if transpose_a else a, b.t() if transpose_b else b)
    if alpha != 1:
        product = product * alpha
    return product if c is None else product + (c if beta == 1 else c * beta)


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Divide; integer division truncates towards zero."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Compute max(0, min(1, alpha * x + beta))."""
    return (x * alpha + beta).clamp(0, 1)


def parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """Multiply negative values with `slope`, broadcast from the last axis."""
    return torch.where(x >= 0, x, x * slope)


def _norm(x: Tensor, p: int, axes: list[int], keepdim: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, p, axes, keepdim)
    return norm


def lp_normalise(x: Tensor, p: int, axis: int) -> Tensor:
    """Divide by the p-norm along `axis`."""
    return x / _norm(x, p, [axis], keepdim=True)


def reduce(x: Tensor, kind: str, axes: list[int] | None, keepdim: bool) -> Tensor:
    """Reduce over `axes` (None: all)."""
    dims = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    match kind:
        case "ReduceSum":
            return torch.sum(x, dims, keepdim)
        case "ReduceMean":
            return torch.mean(x, dims, keepdim)
        case "ReduceMax":
            return torch.amax(x, dims, keepdim)
        case "ReduceMin":
            return torch.amin(x, dims, keepdim)
        case "ReduceL1":
            return _norm(x, 1, dims, keepdim)
        case "ReduceL2":
            return _norm(x, 2, dims, keepdim)
        case "ReduceSumSquare":
            return torch.sum(x * x, dims, keepdim)
        case "ReduceLogSum":
            return torch.log(torch.sum(x, dims, keepdim))
        case "ReduceLogSumExp":
            return torch.logsumexp(x, dims, keepdim)
        case "ReduceProd":
            for axis in sorted(dims, reverse=True):
                x = torch.prod(x, axis, keepdim)
            return x
    raise ValueError(kind)


def flatten(x: Tensor, axis: int) -> Tensor:
    """Flatten to two axes, cut before `axis`."""
    axis = axis % x.dim() if axis < 0 else axis
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Broadcast both ways: a 1 in `shape` keeps the size of `x`."""
    n = max(x.dim(), len(shape))
    sizes = [1] * (n - x.dim()) + list(x.shape)
    wanted = [1] * (n - len(shape)) + list(shape)
    return x.expand([want if size == 1 else size for size, want in zip(sizes, wanted, strict=True)])


def slice_axes(x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> Tensor:
    """Slice along `axes`, backwards if the step is negative."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.size(axis)
        if step > 0:
            index = [slice(None)] * (axis % x.dim()) + [slice(start, end, step)]
            x = x[tuple(index)]
        else:
            positions = range(size)[slice(start, None if end < -size else end, step)]
            x = x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64))
    return x


def gather(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Take `indices` (negative ones count from the end) along `axis`."""
    return x[(slice(None),) * (axis % x.dim()) + (indices,)]


def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
    """Take one slice of `x` for each row of `indices` (..., k) of its first k axes."""
    return x[indices.unbind(-1)]


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """Write one slice of `updates` for each row of `indices` (..., k) into a copy of `x`; ``add`` accumulates them."""
    return x.index_put(indices.unbind(-1), updates, accumulate=reduction == "add")


def tile(x: Tensor, repeats: list[int]) -> Tensor:
    """Repeat along each axis."""
    return x.repeat(*repeats)


def top_k(x: Tensor, k: int, axis: int, largest: bool, in_order: bool) -> tuple[Tensor, Tensor]:
    """Return the `k` largest (smallest) values along `axis` and their indices."""
    values, indices = torch.topk(x, k, axis, largest, in_order)
    return values, indices


def pad(x: Tensor, pads: list[int], axes: list[int] | None, mode: str, value: float) -> Tensor:
    """Pad; `mode` is ``constant``, ``reflect``, ``edge`` or ``wrap``."""
    n = x.dim()
    begins, ends = [0] * n, [0] * n
    for index, axis in enumerate(range(n) if axes is None else axes):
        begins[axis % n], ends[axis % n] = pads[index], pads[index + len(pads) // 2]
    padding = _torch_padding(begins + ends)
    if mode == "constant":
        return F.pad(x, padding, value=value)
    # In other modes, torch pads only trailing axes, with one or two axes (N, C) before them.
    lead = next((axis for axis in range(n) if begins[axis] or ends[axis]), n - 1)
    torch_mode = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode]
    flat = x.reshape(1, -1, *x.shape[lead:])
    return F.pad(flat, padding[: 2 * (n - lead)], mode=torch_mode).reshape(
        *x.shape[:lead], *(x.size(axis) + begins[axis] + ends[axis] for axis in range(lead, n))
    )


def depth_to_space(x: Tensor, block: int, column_first: bool) -> Tensor:
    """Move channels to space, as ``CRD`` (`column_first`) or ``DCR``."""
    if column_first:
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Move blocks of space to channels."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def quotient(a: int, b: int) -> int:
    """Divide two sizes, truncating towards zero as ONNX does."""
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def pick(condition: bool, yes: int, no: int) -> int:
    """Choose between two sizes."""
    return yes if condition else no


def concat_ints(items: list[int], scalar: bool) -> Tensor:
    """Return sizes as an int64 tensor."""
    return torch.tensor(items[0] if scalar else items, dtype=torch.int64)
