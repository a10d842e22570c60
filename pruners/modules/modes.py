"""Save and restore train and eval modes per module, as parts of a network may be frozen in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["copy_modes", "evaluating", "modes_restored"]


def copy_modes(source: nn.Module, target: nn.Module) -> None:
    """Set each layer of `target` to the train or eval mode of the layer of `source` with the same path."""
    modes = {name: module.training for name, module in source.named_modules()}
    _set({module: modes.get(name, module.training) for name, module in target.named_modules()})


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Restore the current train or eval mode of every module of `model` on exit."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        _set(modes)


def _set(modes: Mapping[nn.Module, bool]) -> None:
    """Set the mode of each module, outer ones first; an overridden `train` may change more than the flag."""
    for module, training in modes.items():
        if module.training != training and getattr(type(module).train, "__module__", "") != "torch.nn.modules.module":
            module.train(training)
    for module, training in modes.items():
        module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode, and restore every module's own mode on exit."""
    with modes_restored(model):
        model.eval()
        yield
