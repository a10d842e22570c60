"""Reinitialise all parameters of a network, for a method or a control that trains from scratch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from pruners.errors import TrainingError

__all__ = ["reinitialise_"]


def reinitialise_(network: nn.Module, seed: int, initialise: Callable[[nn.Module], None] | None = None) -> None:
    """Reinitialise every layer as its class does (``reset_parameters``), in place and seeded.

    BatchNorm statistics are reset too. A network whose own code initialises its weights differently gets the defaults
    of its layers' classes, unless that code is passed in.

    Parameters
    ----------
    network : Module
        Any module on any device; the caller's random state is left as it was.
    seed : int
        Seed of the random draws.
    initialise : callable, optional
        ``initialise(network)`` draws in place after the layers did, from torch's global generator, as the network was
        first initialised. It can overwrite every parameter, and alone draws those of modules without
        ``reset_parameters``.

    Raises
    ------
    TrainingError
        A parameter belongs to a module that cannot draw it (nothing was changed then), or `initialise` left it alone.
    """
    layers: list[Callable[[], object]] = []
    left: dict[str, tuple[nn.Parameter, Tensor]] = {}
    for path, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        # torch.nn.MultiheadAttention has the underscore
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None and not is_parametrized(module):
            layers.append(reset)
        elif own and initialise is None:
            raise TrainingError(
                f"{type(module).__name__} {path!r} has no reset_parameters() to draw its parameter {next(iter(own))!r} "
                "anew: hand in the function that draws the network, or start from its present weights"
            )
        else:
            left |= {f"{path}.{name}".lstrip("."): (item, item.detach().clone()) for name, item in own.items()}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        # Inner layers first, so that a module can overwrite the layers in it.
        for reset in reversed(layers):
            reset()
        if initialise is not None:
            initialise(network)
    for name, (parameter, before) in left.items():
        if torch.equal(parameter, before):
            raise TrainingError(
                f"neither reset_parameters() nor the function that was handed in draws {name!r} anew; draw it there"
            )
