"""Draw all parameters of a network anew: where a method, or a control, trains from scratch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from pruners.errors import TrainingError

__all__ = ["reinitialise_"]


def reinitialise_(network: nn.Module, seed: int) -> None:
    """Let every layer draw its parameters as its class does (``reset_parameters``), in place and seeded.

    Statistics of BatchNorm start anew too. A network whose own code drew its weights in another way gets those of its
    layers' classes.

    Parameters
    ----------
    network : Module
        Any module on any device; the caller's random state is left as it was.
    seed : int
        Decides what is drawn.

    Raises
    ------
    TrainingError
        A parameter belongs to a module that cannot draw it; nothing was changed then.
    """
    layers = []
    for path, module in network.named_modules():
        own = [name for name, _ in module.named_parameters(recurse=False)]
        # torch.nn.MultiheadAttention has the underscore
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None and not is_parametrized(module):
            layers.append(reset)
        elif own:
            raise TrainingError(
                f"{type(module).__name__} {path!r} has no reset_parameters() to draw its parameter {own[0]!r} anew: "
                "the network cannot be started from scratch; start from its present weights"
            )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        for reset in layers:
            reset()
