"""Shared by the families: scaled widths, bias-free convolutions, He initialisation."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["conv", "initialise", "scaled"]


def scaled(channels: int, width: float) -> int:
    """Multiply a channel count by the width multiplier, rounded to the nearest integer, at least 1.

    Parameters
    ----------
    channels : int
        Count of the published network.
    width : float
        Width multiplier, above 0; 1.0 is the published network.

    Raises
    ------
    ValueError
        `width` is not above 0.
    """
    if not width > 0:
        raise ValueError(f"width is a multiplier above 0, got {width!r}")
    return max(1, int(channels * width + 0.5))


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Conv2d:
    """Make a convolution that keeps the size (at stride 1) and has no bias: a BatchNorm follows or precedes it."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def initialise(network: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer in place, from torch's global generator.

    Normal with variance 2 / fan_in, biases 0, BatchNorm at identity. Of the two variants of the paper this is the
    forward one: for depthwise convolutions torch's fan_out ignores the groups.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, arXiv 1502.01852, eq. 10.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                module.reset_parameters()
