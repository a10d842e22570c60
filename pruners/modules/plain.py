"""Unwrap modules compiled by `torch.compile`, and reject kinds of networks that cannot be pruned.

Importing this module imports no torch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from pruners.errors import InputError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["plain"]

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao", "bitsandbytes")
_IN_PYTHON = "prune the network as it was written in Python, then script or trace the compact one"
_IN_FLOAT = "prune first, then quantise the compact network"
_IN_MEMORY = "call to_empty(device=...) and load its weights, then prune it"


def plain(network: Any) -> nn.Module:
    """Return a network without the wrappers of `torch.compile` around it or its parts.

    Parameters
    ----------
    network : Module
        Not modified.

    Returns
    -------
    Module
        `network` itself if nothing in it is compiled; else the modules inside, in copies of the modules that hold them.
        Parameters and buffers are the network's own.

    Raises
    ------
    InputError
        It is not a module, or is a `torch.jit` one, quantised, on the meta device, or has layers without sizes.
    """
    import torch

    if not isinstance(network, torch.nn.Module):
        raise InputError(f"a network is a torch.nn.Module, got one of type {type(network).__name__}")
    for name, reason, remedy in _hindrances(network):
        where = f"{name!r} of {type(network).__name__}" if name else type(network).__name__
        raise InputError(f"{where} {reason}: {remedy}")
    return _unwrapped(network, {})


def _hindrances(network: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the obstacles to pruning: name, reason, and remedy."""
    import torch
    from torch.nn.parameter import is_lazy

    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            yield name, "is a torch.jit module", _IN_PYTHON
        if type(module).__module__.startswith(_QUANTISED):
            yield name, "is quantised", _IN_FLOAT
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(tensor):
            yield name, "has no size yet (lazy layers)", "run the network once on its example inputs, then prune it"
        elif isinstance(tensor, torch._subclasses.FakeTensor):
            yield name, "is a fake tensor", "build the network outside FakeTensorMode"
        elif tensor.is_meta:
            yield name, "is on the meta device, without values", _IN_MEMORY
        elif tensor.is_quantized or type(tensor.data).__module__.startswith(_QUANTISED):
            yield name, "is quantised", _IN_FLOAT


def _unwrapped(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    inner = module
    while type(inner).__name__ == "OptimizedModule":
        inner = inner._orig_mod  # type: ignore[assignment]
    known[id(module)] = inner
    children = {name: None if child is None else _unwrapped(child, known) for name, child in inner._modules.items()}
    own_forward = hasattr(vars(inner).get("forward"), "_torchdynamo_orig_callable")
    if (
        own_forward
        or inner._compiled_call_impl is not None
        or any(children[name] is not inner._modules[name] for name in children)
    ):
        inner = copy.copy(inner)
        inner._modules = children
        if own_forward:  # net.forward = torch.compile(net.forward)
            del inner.forward
    known[id(module)] = inner
    return inner
