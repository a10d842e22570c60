"""Inputs to compare two forms of a network on, and the outputs to compare."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruners.errors import FOREIGN
from pruners.modules.calls import NetworkCall, know_dataclasses
from pruners.modules.precision import comparable, precise
from pruners.modules.random_inputs import random_call

__all__ = ["batch_sizes", "device_of", "in_dtype", "in_fp32", "outputs_of"]


def batch_sizes(model: nn.Module, example: NetworkCall) -> tuple[int | None, ...]:
    """Return 1 and 2 where the network runs with such batches, else None alone: the size that was traced.

    Parameters
    ----------
    model : Module
        In evaluation mode and fp32.
    example : NetworkCall
        As `in_fp32` returns it.
    """
    if example.batch is None:
        return (None,)
    for batch in (1, 2):
        try:
            outputs_of(model, random_call(example, batch=batch, device=device_of(model)))
        except FOREIGN:
            return (None,)
    return (1, 2)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def in_fp32(call: NetworkCall) -> NetworkCall:
    """Return the same inputs with floating-point ones in fp32."""
    return in_dtype(call, torch.float32)


def in_dtype(call: NetworkCall, dtype: torch.dtype) -> NetworkCall:
    """Return the same inputs with floating-point ones in a dtype, complex ones in that of such parts."""
    return call.map(lambda tensor: precise(tensor, dtype))


def outputs_of(module: nn.Module, inputs: NetworkCall) -> list[Tensor]:
    """Run a network without gradients, deterministically and without TF32; return all its tensors.

    In float64, complex ones as pairs of real and imaginary parts.

    What the network draws itself is drawn alike in each call, and buffers that it writes are put back.

    Parameters
    ----------
    inputs : NetworkCall
        On the network's device.
    """
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        before = [buffer.clone() for buffer in module.buffers()]
        outputs = inputs(module)
        know_dataclasses(outputs)
        leaves: list[Any] = pytree.tree_leaves(outputs)
        leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return [comparable(leaf) for leaf in leaves if isinstance(leaf, Tensor)]
