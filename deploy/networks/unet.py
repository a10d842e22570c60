"""UNet for denoising: five resolutions, transposed convolutions, skips by concatenation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from deploy.networks.layers import scaled

__all__ = ["UNet", "unet"]


class _Double(nn.Module):
    """Two 3 x 3 convolutions, a ReLU after each."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return out


class UNet(nn.Module):
    """Down by max pooling, up by transposed convolutions; each level also reads its own output on the way down.

    Takes images of shape (N, in_channels, H, W), height and width multiples of ``2 ** (depth - 1)``, and gives images
    of that shape. Weights have torch's default initialisation.

    Parameters
    ----------
    depth : int
        Number of resolutions, at least 2.
    in_channels : int
        See the class.
    width : float
        Multiplies the channels: 32 at the full resolution, twice as many at each one below.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    arXiv 1505.04597. Five resolutions from 32 channels, padded convolutions and no normalisation are the form of DHP's
    official code (Li et al., ECCV 2020, arXiv 2003.13683), 7.76 M parameters in its table. That code uses Xavier
    initialisation instead.
    """

    def __init__(self, depth: int = 5, *, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is at least 2, got {depth}")
        channels = [scaled(32 * 2**level, width) for level in range(depth)]
        self.down = nn.ModuleList(_Double(a, b) for a, b in zip([in_channels, *channels], channels, strict=False))
        self.pool = nn.MaxPool2d(2)
        up = list(reversed(channels))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(up))
        self.up = nn.ModuleList(_Double(2 * b, b) for b in up[1:])
        self.last = nn.Conv2d(channels[0], in_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise images of shape (N, in_channels, H, W)."""
        skips = []
        for level, double in enumerate(self.down):
            x = double(x if level == 0 else self.pool(x))
            skips.append(x)
        for enlarge, double, skip in zip(self.enlarge, self.up, reversed(skips[:-1]), strict=True):
            x = double(torch.cat([enlarge(x), skip], dim=1))
        image: torch.Tensor = self.last(x)
        return image


def unet(*, in_channels: int = 3, width: float = 1.0) -> UNet:
    """UNet with five resolutions: 7.76 M parameters."""
    return UNet(5, in_channels=in_channels, width=width)
