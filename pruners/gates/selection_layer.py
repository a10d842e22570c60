"""AutoPruner's channel selection layer: from a batch's activation to one number per unit."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.gates.input_readers import Reader

__all__ = ["SelectionLayer", "count_weights"]

_LEAST_POOLED = 8
_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


class SelectionLayer(nn.Module):
    """Mean over the batch, 2x2 max pooling of stride 2, fully-connected layer.

    An axis of fewer than 8 positions is not pooled (the official code leaves 7x7 maps as they are), the last position
    of an odd axis is dropped, and a flattened map has no axes to pool. Weights are drawn from N(0, 10 * sqrt(2/n)) with
    n the number of inputs of the layer, C*(H/2)*(W/2), as in the official code; an account of the paper has C*H*W.
    Biases start at zero.

    Parameters
    ----------
    reader : Reader
        Layer whose input is read.
    generator : torch.Generator
        Draws the weights, on the CPU.
    """

    channels: Tensor

    def __init__(self, reader: Reader, generator: torch.Generator) -> None:
        super().__init__()
        n_units, n_inputs = len(reader.positions), math.prod(_pooled_shape(reader))
        self.axis, self.shape = reader.channel_axis, reader.shape[1:]
        self.weight = nn.Parameter(torch.randn(n_units, n_inputs, generator=generator) * (10 * math.sqrt(2 / n_inputs)))
        self.bias = nn.Parameter(torch.zeros(n_units))
        channels = torch.tensor(sorted(p for unit in reader.positions for p in unit))
        self.register_buffer("channels", channels, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return s, of shape (n_units,), in fp32 regardless of the network's precision.

        Raises
        ------
        MethodError
            The activation's shape differs from the traced one.
        """
        if tuple(inputs.shape[1:]) != tuple(self.shape):
            raise MethodError(
                f"a selection layer was made for activations of shape {tuple(self.shape)}, got "
                f"{tuple(inputs.shape[1:])}: trace with inputs of the size that is trained on"
            )
        with torch.autocast(inputs.device.type, enabled=False):
            mean = inputs.float().movedim(self.axis, 1).mean(0).index_select(0, self.channels)
            kernel = _kernel(tuple(mean.shape[1:]))
            if kernel:
                mean = _POOLS[len(kernel) - 1](mean.unsqueeze(0), kernel, kernel)
            return F.linear(mean.reshape(-1), self.weight, self.bias)


def count_weights(reader: Reader) -> int:
    """Count the weights of the fully-connected layer behind a reader's input."""
    return len(reader.positions) * math.prod(_pooled_shape(reader))


def _pooled_shape(reader: Reader) -> tuple[int, ...]:
    """Return the shape of what the fully-connected layer reads: channels, then pooled axes."""
    sizes = list(reader.shape[1:])
    del sizes[0 if reader.channel_axis == 1 else -1]
    channels = sum(len(positions) for positions in reader.positions)
    kernel = _kernel(tuple(sizes)) or (1,) * len(sizes)
    return (channels, *(size // window for size, window in zip(sizes, kernel, strict=True)))


def _kernel(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the pooling window of each spatial axis; empty if there is no axis, or too many."""
    return tuple(2 if size >= _LEAST_POOLED else 1 for size in sizes) if len(sizes) <= len(_POOLS) else ()
