"""Run the original with the removed channels masked everywhere, statistics taken over the survivors.

A second oracle besides masking parameters: if a norm averages over a pruned axis, zeroing parameters cannot equal
removing channels. Here every value of the full-size program is masked, and means, deviations and norms count only what
survives, which is what the compact network computes. Nothing is cut, so errors in the surgery show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from pruners.channels.labels import Value
from pruners.channels.program import Program, writes_in_place
from pruners.channels.propagation import Propagation, operator_name
from pruners.channels.survivors import Survivors
from pruners.errors import VerificationError
from pruners.modules.calls import NetworkCall
from pruners.modules.precision import comparable, varies

__all__ = ["masked_outputs"]

_MOVES = {
    "cat", "chunk", "flatten", "permute", "pixel_shuffle", "pixel_unshuffle", "reshape", "select", "slice",
    "split", "split_with_sizes", "squeeze", "stack", "transpose", "unbind", "unflatten", "unsqueeze", "view",
}  # fmt: skip


def masked_outputs(
    program: Program,
    walk: Propagation,
    survivors: Survivors,
    tensors: Mapping[str, Tensor],
    inputs: NetworkCall,
    *,
    left_out: Mapping[str, str] | None = None,
) -> list[Tensor]:
    """Return the outputs of a program whose removed channels are masked.

    Parameters
    ----------
    tensors : Mapping of str to Tensor
        Parameters and buffers, full size, by the model's names.
    inputs : NetworkCall
        At the traced batch size, or at any other that the program runs with.
    left_out : Mapping of str to str, optional
        Removed residual blocks: node of the addition -> node whose value takes its place.

    Returns
    -------
    list of Tensor
        All tensors that the program returns, as float64, complex ones as pairs.

    Raises
    ------
    VerificationError
        A value that was only moved is not zero where its labels say that it is removed.
    """
    with torch.no_grad():
        result = _Masked(program, walk, survivors, tensors, left_out or {}).run(
            *inputs.leaves, enable_io_processing=False
        )
    return [comparable(leaf) for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


class _Masked(fx.Interpreter):
    def __init__(
        self,
        program: Program,
        walk: Propagation,
        survivors: Survivors,
        tensors: Mapping[str, Tensor],
        left_out: Mapping[str, str],
    ) -> None:
        # Keep all values to the end: the last read of the one that replaces a removed block may come before the block.
        super().__init__(program.module, garbage_collect_values=not left_out)
        self._stays = {node.name: node for node in program.module.graph.nodes if node.name in left_out.values()}
        self._left_out = left_out
        self._names, self._batch = program.tensors, program.batch
        self._walk, self._survivors, self._tensors = walk, survivors, tensors
        self._along: dict[int, list[tuple[int, Tensor]]] = {}

    def fetch_attr(self, target: str) -> Any:
        name = self._names.get(target)
        return super().fetch_attr(target) if name is None else self._tensors[name]

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self._left_out:
            return self.env[self._stays[self._left_out[n.name]]]
        statistic = _STATISTICS.get(operator_name(n.target))
        if statistic is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            mask = self._mask(n.args[0], args[0])
            if mask is not None:
                return self._masked(n, statistic(mask, n, *args, **kwargs))
        return self._masked(n, super().run_node(n))

    def _mask(self, node: Any, tensor: Any) -> Tensor | None:
        """Return a bool tensor that broadcasts to `tensor`: False where an entry is removed; None if none is."""
        value = self._walk.values.get(node.name) if isinstance(node, fx.Node) else None
        if not isinstance(value, Value) or not isinstance(tensor, Tensor):
            return None
        mask: Tensor | None = None
        for axis, stay in self._stays_along(value, tensor):
            own = stay.reshape([1] * axis + [-1] + [1] * (tensor.ndim - axis - 1))
            mask = own if mask is None else mask & own
        return mask

    def _stays_along(self, value: Value, tensor: Tensor) -> list[tuple[int, Tensor]]:
        """Return which positions survive along each axis that loses some."""
        if len(value.shape) != tensor.ndim:
            return []
        if id(value) not in self._along:
            pairs = ((axis, self._survivors.along(value, axis)) for axis in value.axes)
            self._along[id(value)] = [(axis, stay.to(tensor.device)) for axis, stay in pairs if stay is not None]
        fitted = []
        for axis, stay in self._along[id(value)]:
            wanted = tensor.shape[axis]
            if len(stay) != wanted:  # a batch of another size, merged with this axis
                period = len(stay) // self._batch
                stay = stay[:period].repeat(wanted // period)
            fitted.append((axis, stay))
        return fitted

    def _masked(self, n: fx.Node, result: Any) -> Any:
        values = self._walk.values.get(n.name)
        if isinstance(result, Tensor) and isinstance(values, Value):
            return self._zeroed(n, result, values)
        if isinstance(result, (list, tuple)) and isinstance(values, list):
            pairs = zip(result, values, strict=True)
            return [self._zeroed(n, t, v) if isinstance(t, Tensor) and isinstance(v, Value) else t for t, v in pairs]
        return result

    def _zeroed(self, n: fx.Node, tensor: Tensor, value: Value) -> Tensor:
        gone = [(axis, (~stay).nonzero()[:, 0]) for axis, stay in self._stays_along(value, tensor) if varies(tensor)]
        if writes_in_place(n):  # into what earlier nodes returned, and later ones read
            for axis, positions in gone:
                tensor.index_fill_(axis, positions, 0)
            return tensor
        gone = [(axis, positions) for axis, positions in gone if bool(tensor.index_select(axis, positions).any())]
        if gone and operator_name(n.target) in _MOVES:
            raise VerificationError(f"the label engine moved channels wrongly at {n.name} ({n.target})")
        for axis, positions in gone:  # copy only if needed: what is written into a view must reach its base
            tensor = tensor.index_fill(axis, positions, 0)
        return tensor


def _axes(dim: Any, rank: int) -> tuple[int, ...]:
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    return tuple(axis % rank for axis in (dim if isinstance(dim, Sequence) else [dim]))


def _moments(x: Tensor, mask: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, squared differences from it (summed) and count of the survivors along `axes`, kept as size 1."""
    stay = mask.expand(x.shape)
    count = stay.sum(tuple(axes), keepdim=True).clamp(min=1)
    mean = x.masked_fill(~stay, 0).sum(tuple(axes), keepdim=True) / count
    squares = (x - mean).masked_fill(~stay, 0).square().sum(tuple(axes), keepdim=True)
    return mean, squares, count


def _layer_norm(
    mask: Tensor,
    _: fx.Node,
    x: Tensor,
    shape: Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *__: Any,
) -> Tensor:
    mean, squares, count = _moments(x, mask, range(x.ndim - len(shape), x.ndim))
    return _affine((x - mean) * torch.rsqrt(squares / count + eps), weight, bias)


def _rms_norm(
    mask: Tensor, _: fx.Node, x: Tensor, shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    stay = mask.expand(x.shape)
    mean = x.masked_fill(~stay, 0).square().sum(axes, keepdim=True) / stay.sum(axes, keepdim=True).clamp(min=1)
    return _affine(x * torch.rsqrt(mean + (torch.finfo(x.dtype).eps if eps is None else eps)), weight, None)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _group_norm(
    mask: Tensor, _: fx.Node, x: Tensor, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *__: Any
) -> Tensor:
    by_group = x.reshape(x.shape[0], groups, -1)
    stay = mask.expand(x.shape).reshape(by_group.shape)
    mean, squares, count = _moments(by_group, stay, [2])
    normal = ((by_group - mean) * torch.rsqrt(squares / count + eps)).reshape(x.shape)
    along = (1, -1, *[1] * (x.ndim - 2))
    return _affine(normal, *(None if item is None else item.reshape(along) for item in (weight, bias)))


def _batch_norm(
    mask: Tensor,
    n: fx.Node,
    x: Tensor,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    *rest: Any,
) -> Tensor:
    if not training:
        return n.target(x, weight, bias, running_mean, running_var, training, momentum, eps, *rest)  # type: ignore[operator, no-any-return]
    # a batch norm shares statistics over the batch, an instance norm does not
    axes = [axis for axis in range(x.ndim) if axis != 1 and (axis or operator_name(n.target) == "batch_norm")]
    mean, squares, count = _moments(x, mask, axes)
    along = (1, -1, *[1] * (x.ndim - 2))
    normal = (x - mean) * torch.rsqrt(squares / count + eps)
    return _affine(normal, *(None if item is None else item.reshape(along) for item in (weight, bias)))


def _mean(mask: Tensor, _: fx.Node, x: Tensor, dim: Any = None, keepdim: bool = False, **__: Any) -> Tensor:
    axes = _axes(dim, x.ndim)
    return _squeezed(_moments(x, mask, axes)[0], axes, keepdim)


def _spread(root: bool, with_mean: bool) -> Callable[..., Any]:
    def statistic(
        mask: Tensor, n: fx.Node, x: Tensor, dim: Any = None, *rest: Any, keepdim: bool = False, **named: Any
    ) -> Any:
        overload = str(n.target).rpartition(".")[2]
        correction = named.get("correction", 1 if named.get("unbiased", True) else 0)
        if rest:  # (dim, unbiased, keepdim)
            correction, keepdim = (1 if rest[0] else 0), bool(rest[1]) if len(rest) > 1 else keepdim
        elif isinstance(dim, bool) and overload == "default":
            correction, dim = (1 if dim else 0), None
        axes = _axes(dim, x.ndim)
        mean, squares, count = _moments(x, mask, axes)
        spread = squares / (count - (1 if correction is None else correction)).clamp(min=1)
        spread = _squeezed(spread.sqrt() if root else spread, axes, keepdim)
        return (spread, _squeezed(mean, axes, keepdim)) if with_mean else spread

    return statistic


def _extreme(highest: bool) -> Callable[..., Any]:
    def statistic(mask: Tensor, n: fx.Node, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Tensor):  # the larger of two tensors
            return n.target(x, *args, **kwargs)  # type: ignore[operator]
        lowest = torch.finfo(x.dtype).min if highest else torch.finfo(x.dtype).max
        return n.target(x.masked_fill(~mask, lowest), *args, **kwargs)  # type: ignore[operator]

    return statistic


def _squeezed(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    return x if keepdim else x.squeeze(tuple(axes))


_STATISTICS: dict[str, Callable[..., Any]] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "instance_norm": _batch_norm,
    "mean": _mean,
    "var": _spread(False, False),
    "std": _spread(True, False),
    "std_mean": _spread(True, True),
    "var_mean": _spread(False, True),
    "amax": _extreme(True),
    "amin": _extreme(False),
    "max": _extreme(True),
    "min": _extreme(False),
}
