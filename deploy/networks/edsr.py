"""EDSR: residual super-resolution without normalisation."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import scaled
from deploy.networks.upsampling import upsampler

__all__ = ["EDSR", "edsr"]

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean red, green and blue of DIV2K's training images, in [0, 1]."""


class _Block(nn.Module):
    """Convolution, ReLU, convolution; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv2(self.relu(self.conv1(x)))
        return out


class EDSR(nn.Module):
    """A convolution, residual blocks under one long skip, an upsampler, a convolution to an image.

    Takes images of shape (N, in_channels, H, W) in [0, 1] and gives (N, in_channels, scale * H, scale * W). The mean
    colour of DIV2K is subtracted before and added after. Weights have torch's default initialisation.

    Parameters
    ----------
    blocks : int
        Number of residual blocks.
    scale : {2, 3, 4}
        Factor of height and width.
    in_channels : int
        See the class; counts other than 3 use the mean over the colours.
    width : float
        Multiplies the 128 channels of every layer but the last.

    References
    ----------
    B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
    CVPR Workshops 2017, arXiv 1707.02921. The small form, 8 blocks of 128 channels without residual scaling, is the
    one of DHP's official code (Li et al., ECCV 2020, arXiv 2003.13683), 3.70 M parameters in its table; the paper's
    own are 16 blocks of 64 and 32 blocks of 256.
    """

    mean: torch.Tensor

    def __init__(self, blocks: int = 8, *, scale: int = 4, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(128, width)
        mean = _MEAN if in_channels == len(_MEAN) else (sum(_MEAN) / len(_MEAN),)
        # Not saved with the weights: it is a constant of the architecture.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.head = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_Block(channels) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.upsampler = upsampler(channels, scale)
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale images of shape (N, in_channels, H, W)."""
        x = self.head(x - self.mean)
        image: torch.Tensor = self.tail(self.upsampler(x + self.body(x))) + self.mean
        return image


def edsr(*, in_channels: int = 3, scale: int = 4, width: float = 1.0) -> EDSR:
    """EDSR with 8 blocks of 128 channels: 3.70 M parameters at scale 4."""
    return EDSR(8, scale=scale, in_channels=in_channels, width=width)
