"""DnCNN: denoising by a plain stack of convolutions that predicts the noise."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import scaled

__all__ = ["DnCNN", "dncnn"]


class DnCNN(nn.Module):
    """Convolution and ReLU; convolution, BatchNorm and ReLU many times; a convolution. The noisy image is added.

    Takes images of shape (N, in_channels, H, W) and gives images of that shape. Weights have torch's default
    initialisation.

    Parameters
    ----------
    depth : int
        Number of convolutions, at least 2.
    in_channels : int
        See the class.
    width : float
        Multiplies the 64 channels of every layer but the last.

    References
    ----------
    K. Zhang, W. Zuo, Y. Chen, D. Meng, L. Zhang, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image
    Denoising", IEEE TIP 2017, arXiv 1608.03981. 17 layers of 64 channels are 0.56 M parameters, for grey and for
    colour. As in the official code of DHP (Li et al., ECCV 2020, arXiv 2003.13683) every convolution has a bias.
    """

    def __init__(self, depth: int = 17, *, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth is at least 2, got {depth}")
        channels = scaled(64, width)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, in_channels, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Denoise images of shape (N, in_channels, H, W)."""
        image: torch.Tensor = x + self.layers(x)
        return image


def dncnn(*, depth: int = 17, in_channels: int = 3, width: float = 1.0) -> DnCNN:
    """DnCNN with 17 layers: 0.56 M parameters."""
    return DnCNN(depth, in_channels=in_channels, width=width)
