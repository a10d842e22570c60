"""Wake a network up: weights with which its output depends on every channel, so that a comparison says something.

A freshly initialised network is blind to most of its channels: its signal dies out over the layers, zero-initialised
scales switch branches off, unit norms hide which statistics belong to which channel. A trained one can be blind too
where a layer scale stays at 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruners.modules.calls import NetworkCall
from pruners.modules.precision import varies

__all__ = ["randomize_for_sensitivity"]

_TINY = 1e-3


def randomize_for_sensitivity(module: nn.Module, inputs: NetworkCall, *, seed: int) -> None:
    """Redraw norms and constant or tiny parameters in place, then scale layers to outputs of unit spread.

    Parameters
    ----------
    module : Module
        In evaluation mode; its parameters and buffers change.
    inputs : NetworkCall
        Of one run. During it each convolution and linear layer is divided by the spread
        of its output and gets a bias that leaves most of its channels above zero, and each norm's statistics are set
        near those of its input.
    seed : int
        Seeds what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    _redraw_(module, generator)
    awake: set[int] = set()
    hooks = []
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) and "weight" in layer._parameters:
            hooks.append(layer.register_forward_hook(_once(awake, _unit_spread(generator)), with_kwargs=True))
        elif isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_var is not None:
            hooks.append(layer.register_forward_pre_hook(_once(awake, _near_input(generator)), with_kwargs=True))
    try:
        with torch.no_grad():
            inputs(module)
    finally:
        for hook in hooks:
            hook.remove()


def _redraw_(module: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in module.modules():
            tensors = {**layer._parameters, **layer._buffers}
            is_norm = "running_var" in tensors or isinstance(layer, (nn.LayerNorm, nn.GroupNorm))
            for name, tensor in tensors.items():
                if tensor is None or not varies(tensor) or not tensor.numel():
                    continue
                spread = (tensor - tensor.flatten()[0]).abs().max()
                blind = float(spread) == 0 or float(tensor.abs().max()) < _TINY
                if not is_norm and not (blind and isinstance(tensor, nn.Parameter)):
                    continue
                if name == "bias":
                    drawn = _shifts(tensor, generator)
                elif name == "running_mean":
                    drawn = torch.randn(tensor.shape, generator=generator) * 0.3
                elif tensor.ndim > 1 and isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)):
                    drawn = torch.randn(tensor.shape, generator=generator) / math.sqrt(math.prod(tensor.shape[1:]))
                elif tensor.is_complex():
                    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.complex64)
                else:
                    drawn = torch.rand(tensor.shape, generator=generator) + 0.5
                tensor.copy_(drawn)


def _once(seen: set[int], hook: Callable[..., Any]) -> Callable[..., Any]:
    def first_call(layer: nn.Module, *args: Any) -> Any:
        if id(layer) in seen:
            return None
        seen.add(id(layer))
        return hook(layer, *args)

    return first_call


def _unit_spread(generator: torch.Generator) -> Callable[..., Any]:
    def scale(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        spread = _spread(_first(output))
        if not math.isfinite(spread) or spread < _TINY**3:
            return None
        layer.weight.div_(spread)
        if layer.bias is not None:
            layer.bias.zero_()
            scaled = _first(layer.forward(*args, **kwargs))
            layer.bias.copy_(_shifts(layer.bias, generator))
            usual = -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)
            if scaled is not None and (mean := _means(scaled, usual, len(layer.bias))) is not None:
                layer.bias.sub_(mean)
        return layer.forward(*args, **kwargs)

    return scale


def _first(nested: Any) -> Tensor | None:
    """Return the first tensor of numbers of what a layer of anybody's own is called with, or gives."""
    return next((leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)


def _spread(x: Tensor | None) -> float:
    return float(x.std()) if x is not None and x.numel() > 1 else 0.0


def _means(x: Tensor, usual: int, channels: int) -> Tensor | None:
    """Return the mean of each channel: along the usual axis, else along the last; None where neither is theirs."""
    for axis in (usual, -1):
        if -x.ndim <= axis < x.ndim and x.shape[axis] == channels:
            return x.movedim(axis, 0).flatten(1).mean(1)
    return None


def _shifts(bias: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the channels' means: most of them alive behind a ReLU."""
    return 0.5 + 0.5 * torch.randn(bias.shape, generator=generator)


def _near_input(generator: torch.Generator) -> Callable[..., None]:
    def set_statistics(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        n = layer.running_mean.shape
        x = _first((args, kwargs))
        mean = None if x is None else _means(x, 1, len(layer.running_mean))
        if mean is None:
            return
        spread = _spread(x)
        spread = spread if math.isfinite(spread) and spread > _TINY**3 else 1.0
        layer.running_mean.copy_(mean + 0.3 * spread * torch.randn(n, generator=generator).to(mean.device))
        layer.running_var.copy_(spread**2 * (torch.rand(n, generator=generator) + 0.5))

    return set_statistics
