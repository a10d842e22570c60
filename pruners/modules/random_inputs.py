"""Draw random inputs as described by a plan, or like those of an example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from pruners.errors import PlanError
from pruners.modules.calls import NetworkCall, filled
from pruners.modules.precision import varies
from pruners.plan import InputSpec, PruningPlan

__all__ = ["SOURCES", "Source", "planned_call", "random_call", "random_inputs", "spec_of"]

Source = Literal["values", "numbers", "example"]
"""What is kept of an example: the range of its values, also its integers and booleans, or all of it."""
SOURCES: tuple[Source, ...] = get_args(Source)
_LISTED = 1024


def random_call(
    like: NetworkCall, *, batch: int | None = None, seed: int = 0, source: Source = "values"
) -> NetworkCall:
    """Draw the tensors of a call from those of an example; everything else is unchanged.

    Parameters
    ----------
    like : NetworkCall
        The example.
    batch : int, optional
        Size of the first axis of every tensor; default as in the example.
    source : {"values", "numbers", "example"}
        ``"values"``: each number is taken from a random row of the example at the same place, so that a tensor stays
        positive, integral, or below a bound, column by column; with one row, numbers near its own, and its integers in
        any order; if all values are the same (ones, zeros), others around it, but the same booleans. ``"numbers"``:
        only real and complex numbers are drawn this way, and integers and booleans (lengths, offsets, masks) are rows
        of the example in order. ``"example"``: all are.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(tensor: Tensor) -> Tensor:
        shape = tuple(tensor.shape) if batch is None or not tensor.ndim else (batch, *tensor.shape[1:])
        if source == "values" or (source == "numbers" and varies(tensor)):
            return _like(tensor, shape, generator)
        return tensor if batch is None else tensor[torch.arange(batch, device=tensor.device) * len(tensor) // batch]

    return like.map(drawn)


def _like(tensor: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    values = tensor.detach().flatten()
    if not bool((values != values[:1]).any()):
        return _around(tensor, shape, generator)
    if bool((tensor != tensor[:1]).any()):  # each number from a row of the example, at its own place
        return tensor.detach().gather(0, torch.randint(len(tensor), shape, generator=generator).to(tensor.device))
    if not varies(tensor):
        return values[torch.randint(len(values), shape, generator=generator).to(values.device)]
    near = tensor.detach()[:1].to("cpu", torch.complex128 if tensor.is_complex() else torch.float64)
    drawn = near * (0.8 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64))
    if not tensor.is_complex():
        whole = bool((near == near.round()).all())
        drawn = (drawn.round() if whole else drawn).clamp(near.min(), near.max())
    return drawn.to(tensor.device, tensor.dtype)


def _around(tensor: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if tensor.dtype == torch.bool and tensor.numel():  # a mask that hides a whole row is not valid everywhere
        return tensor.detach().flatten()[:1].expand(*shape).clone()
    only = tensor.detach().flatten()[0].item() if tensor.numel() else 0
    if not varies(tensor):
        drawn = torch.randint(min(int(only), 0), max(int(only), 1) + 1, shape, generator=generator)
    elif not only or not math.isfinite(abs(only)):
        dtype = torch.complex128 if tensor.is_complex() else torch.float64
        drawn = torch.randn(shape, generator=generator, dtype=dtype)
    else:
        drawn = only * (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64))
    return drawn.to(tensor.device, tensor.dtype)


def planned_call(plan: PruningPlan, *, device: torch.device | str = "cpu") -> NetworkCall:
    """Draw a call as described by a plan: values it does not list, within its bounds.

    Raises
    ------
    PlanError
        The plan does not say how the network is called.
    """
    return filled(plan.call, random_inputs(plan.inputs, device=device))


def spec_of(tensor: Tensor) -> InputSpec:
    """Return shape, dtype and bounds of a tensor; for few integers or booleans, all values."""
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if tensor.is_floating_point():
        finite = tensor.detach().double()
        finite = finite[finite.isfinite()]
        if not finite.numel():
            return InputSpec(shape=shape, dtype=dtype)
        return InputSpec(shape=shape, dtype=dtype, low=float(finite.min()), high=float(finite.max()))
    if tensor.is_complex() or not tensor.numel():
        return InputSpec(shape=shape, dtype=dtype)
    if tensor.numel() <= _LISTED:
        return InputSpec(shape=shape, dtype=dtype, values=tuple(map(int, tensor.flatten().tolist())))
    return InputSpec(shape=shape, dtype=dtype, low=int(tensor.min()), high=int(tensor.max()))


def random_inputs(
    specs: Sequence[InputSpec], *, batch: int | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    """Draw one call's inputs within their bounds; without bounds, normal numbers, and 0 or 1 for integers and booleans.

    Parameters
    ----------
    batch : int, optional
        Size of the first axis of every input; default as described. Listed values are then ignored.

    Returns
    -------
    tuple of Tensor
        Of the shapes and dtypes of `specs`.

    Raises
    ------
    PlanError
        A dtype is not torch's.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for spec in specs:
        dtype = getattr(torch, spec.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise PlanError(f"input dtype {spec.dtype!r} is not a torch dtype; write it like 'float32'")
        shape = spec.shape if batch is None else (batch, *spec.shape[1:])
        low, high = spec.low, spec.high
        if spec.values is not None and batch is None:
            values = torch.tensor(spec.values).reshape(shape)
        elif dtype.is_complex or (dtype.is_floating_point and (low is None or high is None)):
            values = torch.randn(shape, generator=generator, dtype=dtype if dtype.is_complex else torch.float32)
        elif dtype.is_floating_point:
            assert low is not None and high is not None, "the case above"
            values = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        else:
            first, last = (0, 1) if low is None or high is None else (int(low), int(high))
            values = torch.randint(first, last + 1, shape, generator=generator)
        drawn.append(values.to(dtype).to(device))
    return tuple(drawn)
