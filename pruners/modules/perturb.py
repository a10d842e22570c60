"""Draw weights with which a network's output depends on every channel, so that comparisons are meaningful.

A freshly initialised network is insensitive to most of its channels: its signal dies out over the layers,
zero-initialised scales switch branches off, unit norms hide which statistics belong to which channel. A trained one can
be insensitive too if a layer scale stays at 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruners.modules.calls import NetworkCall
from pruners.modules.outputs import outputs_of, run_alike
from pruners.modules.precision import varies

__all__ = ["randomize_for_sensitivity"]

_TINY = 1e-3
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_AFFINE = frozenset(layer.forward for layer in _LAYERS)
"""Code of layers whose output is an affine function of the weight: half the weight, half the output."""


def randomize_for_sensitivity(module: nn.Module, inputs: NetworkCall, *, seed: int) -> list[Tensor]:
    """Redraw norms and constant or tiny parameters in place, then scale layers to unit output spread.

    Parameters
    ----------
    module : Module
        In evaluation mode; its parameters and buffers are modified.
    inputs : NetworkCall
        Inputs of one run. During it each convolution and linear layer is divided by the spread of its output and gets a
        bias that leaves most of its channels above zero, and each norm's statistics are set near those of its input.
    seed : int
        Seed of the random draws.

    Returns
    -------
    list of Tensor
        The network's outputs for `inputs` with these weights, as from `pruners.modules.outputs.run_alike`.
    """
    generator = torch.Generator().manual_seed(seed)
    _redraw_(module, generator)
    awake: set[int] = set()
    hooks = []
    scaled: list[Tensor] = []
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) and "weight" in layer._parameters:
            scaled.append(layer.weight)
            hooks.append(layer.register_forward_hook(_once(awake, _unit_spread(generator)), with_kwargs=True))
        elif isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_var is not None:
            hooks.append(layer.register_forward_pre_hook(_once(awake, _near_input(generator)), with_kwargs=True))
    try:
        outputs = run_alike(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    # Weights shared by several layers were scaled again after the first of them had run.
    return outputs if len(set(scaled)) == len(scaled) else outputs_of(module, inputs)


def _redraw_(module: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in module.modules():
            tensors = {**layer._parameters, **layer._buffers}
            is_norm = "running_var" in tensors or isinstance(layer, (nn.LayerNorm, nn.GroupNorm))
            for name, tensor in tensors.items():
                if tensor is None or not varies(tensor) or not tensor.numel():
                    continue
                if not is_norm and not (isinstance(tensor, nn.Parameter) and _blind(tensor)):
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


def _blind(tensor: Tensor) -> bool:
    """Return whether a tensor is constant, or nearly zero."""
    if tensor.is_complex():
        return not bool((tensor != tensor.flatten()[0]).any()) or float(tensor.abs().max()) < _TINY
    low, high = (float(bound) for bound in tensor.aminmax())
    return low == high or max(-low, high) < _TINY


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
        usual = -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)
        if type(layer).forward in _AFFINE and len(layer._forward_hooks) == 1:
            return _follow(layer, output, spread, usual, generator)
        if layer.bias is not None:
            layer.bias.zero_()
            scaled = _first(layer.forward(*args, **kwargs))
            layer.bias.copy_(_shifts(layer.bias, generator))
            if scaled is not None and (mean := _means(scaled, usual, len(layer.bias))) is not None:
                layer.bias.sub_(mean)
        return layer.forward(*args, **kwargs)

    return scale


def _follow(layer: Any, output: Tensor, spread: float, axis: int, generator: torch.Generator) -> Tensor:
    """Draw the bias of a layer whose weight was divided, and bring its output up to date without running it again."""
    if layer.bias is None:
        return output / spread
    channels = output.movedim(axis, -1)
    scaled = (channels - layer.bias) / spread
    layer.bias.copy_(_shifts(layer.bias, generator))
    layer.bias.sub_(scaled.mean(tuple(range(scaled.ndim - 1))))
    shifted: Tensor = scaled + layer.bias
    return shifted.movedim(-1, axis)


def _first(nested: Any) -> Tensor | None:
    """Return the first floating-point tensor among the inputs or outputs of any layer."""
    return next((leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)


def _spread(x: Tensor | None) -> float:
    return float(x.std()) if x is not None and x.numel() > 1 else 0.0


def _means(x: Tensor, usual: int, channels: int) -> Tensor | None:
    """Return the mean of each channel, along the usual axis or else the last; None if neither fits."""
    for axis in (usual, -1):
        if -x.ndim <= axis < x.ndim and x.shape[axis] == channels:
            return x.movedim(axis, 0).flatten(1).mean(1)
    return None


def _shifts(bias: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the channels' means, so that most of them are alive after a ReLU."""
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
