"""Train and eval modes, module by module: people freeze parts of a network in evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["copy_modes", "evaluating", "modes_restored"]


def copy_modes(source: nn.Module, target: nn.Module) -> None:
    """Put the layers of `target` into the train or eval mode of those of `source` that have the same path."""
    modes = {name: module.training for name, module in source.named_modules()}
    _set({module: modes.get(name, module.training) for name, module in target.named_modules()})


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Restore afterwards the train or eval mode that every module of `model` has now."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        _set(modes)


def _set(modes: Mapping[nn.Module, bool]) -> None:
    """Put each module into its mode, outer ones first; a `train` of one's own may switch more than the flag."""
    for module, training in modes.items():
        if module.training != training and getattr(type(module).train, "__module__", "") != "torch.nn.modules.module":
            module.train(training)
    for module, training in modes.items():
        module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation; afterwards every module has its own mode again."""
    with modes_restored(model):
        model.eval()
        yield
