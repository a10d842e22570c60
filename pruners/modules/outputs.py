"""Inputs to compare two forms of a network on, and the outputs to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruners.errors import FOREIGN
from pruners.modules.random_inputs import random_inputs
from pruners.plan import InputSpec

__all__ = ["batch_sizes", "device_of", "in_fp32", "outputs_of"]


def batch_sizes(model: nn.Module, specs: Sequence[InputSpec]) -> tuple[int | None, ...]:
    """Return 1 and 2 where the network runs with such batches, else None alone: the size that was traced.

    Parameters
    ----------
    model : Module
        In evaluation mode and fp32.
    """
    if len({spec.shape[0] if spec.shape else None for spec in specs}) != 1 or not specs[0].shape:
        return (None,)
    for batch in (1, 2):
        try:
            outputs_of(model, random_inputs(specs, batch=batch, device=device_of(model)))
        except FOREIGN:
            return (None,)
    return (1, 2)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def in_fp32(specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Return the same inputs with floating-point ones in fp32."""
    other = {"float16", "bfloat16", "float64"}
    return tuple(s.model_copy(update={"dtype": "float32"}) if s.dtype in other else s for s in specs)


def outputs_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Run a network without gradients, deterministically and without TF32; return all its tensors in float64.

    What the network draws itself is drawn alike in each call, and buffers that it writes are put back.

    Parameters
    ----------
    inputs : tuple of Tensor
        Of one call, each of shape (batch, ...), on the network's device.
    """
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        before = [buffer.clone() for buffer in module.buffers()]
        leaves: list[Any] = pytree.tree_leaves(module(*inputs))
        leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return [leaf.double() for leaf in leaves if isinstance(leaf, Tensor)]
