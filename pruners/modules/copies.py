"""Deep copies of networks that keep tensors from earlier calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pruners.modules.attributes import OF_TORCH
from pruners.modules.modes import copy_modes, modes_restored

__all__ = ["copy_of", "copy_to_trace"]


def copy_to_trace(model: nn.Module) -> nn.Module:
    """Return a copy as `copy_of` that shares parameters and buffers: to trace it, or where the model is thrown away.

    A class whose ``train()`` does more than to switch the mode may write to them (it merges weights): such a network
    is copied whole.
    """
    plain = all(type(layer).train is nn.Module.train for layer in model.modules())
    own = (*model.parameters(), *model.buffers()) if plain else ()
    return copy_of(model, instead={id(tensor): tensor for tensor in own})


def copy_of(model: nn.Module, *, instead: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Return a deep copy of a module without what it keeps from earlier calls.

    Weights that a hook of `torch.nn.utils.weight_norm` computed can be copied so, and tensors that a module caches
    while it evaluates and drops in ``train()`` are dropped. Every layer is in the mode that it has in `model`, whatever
    a class's own copying does. For the tensors whose `id` is in `instead`, the copy
    has those that it names.
    """
    kept = [tensor for layer in model.modules() for tensor in _kept_by(layer)]
    computed = {id(tensor): tensor.detach().clone() for tensor in kept if tensor.grad_fn is not None}
    twin = copy.deepcopy(model, {**computed, **(instead or {})})
    for layer in twin.modules():
        if list(_kept_by(layer, dict)):
            with modes_restored(layer):
                layer.train()
    copy_modes(model, twin)
    return twin


def _kept_by(layer: nn.Module, container: type = object) -> Iterator[Tensor]:
    """Yield the tensors in attributes of a type that are neither parameters nor buffers."""
    for name, value in vars(layer).items():
        if name not in OF_TORCH and isinstance(value, container):
            yield from _tensors_in(value)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)
