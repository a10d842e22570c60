"""SRResNet: residual super-resolution with BatchNorm and PReLU."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import scaled
from deploy.networks.upsampling import upsampler

__all__ = ["SRResNet", "srresnet"]


class _Block(nn.Module):
    """Convolution, BatchNorm, PReLU, convolution, BatchNorm; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return out


class SRResNet(nn.Module):
    """A 9 x 9 convolution, residual blocks under one long skip, an upsampler, a convolution to an image.

    Takes images of shape (N, in_channels, H, W) in [0, 1] and gives (N, in_channels, scale * H, scale * W). Weights
    have torch's default initialisation.

    Parameters
    ----------
    blocks : int
        Number of residual blocks.
    scale : {2, 3, 4}
        Factor of height and width.
    in_channels : int
        See the class.
    width : float
        Multiplies the 64 channels of every layer but the last.

    References
    ----------
    C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017,
    arXiv 1609.04802. As in the official code of DHP (Li et al., ECCV 2020, arXiv 2003.13683) the last convolution is
    3 x 3, not 9 x 9, and convolutions before a BatchNorm have a bias: with it the count is the 1.54 M of DHP's table.
    """

    def __init__(self, blocks: int = 16, *, scale: int = 4, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.head = nn.Sequential(nn.Conv2d(in_channels, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(_Block(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        self.upsampler = upsampler(channels, scale, activation=True)
        self.tail = nn.Conv2d(channels, in_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale images of shape (N, in_channels, H, W)."""
        x = self.head(x)
        image: torch.Tensor = self.tail(self.upsampler(x + self.body(x)))
        return image


def srresnet(*, in_channels: int = 3, scale: int = 4, width: float = 1.0) -> SRResNet:
    """SRResNet with 16 blocks: 1.54 M parameters at scale 4."""
    return SRResNet(16, scale=scale, in_channels=in_channels, width=width)
