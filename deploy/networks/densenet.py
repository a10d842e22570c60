"""DenseNet without bottlenecks for 32 x 32 images: three dense blocks, 1 x 1 transitions that keep the width."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import conv, initialise, scaled

__all__ = ["DenseLayer", "DenseNet", "Transition", "densenet40"]


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 3 x 3 convolution; the new channels are appended to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = conv(in_channels, growth, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, in_channels + growth, H, W)."""
        return torch.cat((x, self.conv(self.relu(self.bn(x)))), dim=1)


class Transition(nn.Module):
    """BatchNorm, ReLU, 1 x 1 convolution, 2 x 2 average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = conv(channels, channels, 1)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, H, W) to (N, channels, H // 2, W // 2)."""
        out: torch.Tensor = self.pool(self.conv(self.relu(self.bn(x))))
        return out


class DenseNet(nn.Module):
    """A stem, three dense blocks with transitions between them, a last BatchNorm and ReLU, average and classifier.

    Takes images of shape (N, in_channels, H, W), H and W at least 4, and gives scores of shape (N, n_classes).

    Parameters
    ----------
    depth : int
        3n + 4 for n layers per block.
    growth : int
        Channels that each layer adds.
    stem : int
        Channels of the first convolution.
    n_classes, in_channels : int
        See the class.

    References
    ----------
    G. Huang, Z. Liu, L. van der Maaten, K. Weinberger, "Densely Connected Convolutional Networks", CVPR 2017,
    arXiv 1608.06993, section 4.2.
    """

    def __init__(self, depth: int, *, growth: int, stem: int, n_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        n_layers, remainder = divmod(depth - 4, 3)
        if remainder or n_layers < 1:
            raise ValueError(f"depth is 3n + 4 with n >= 1, got {depth}")
        self.conv = conv(in_channels, stem, 3)
        channels = stem
        stages: list[nn.Module] = []
        for block in range(3):
            layers: list[nn.Module] = [Transition(channels)] if block else []
            for _ in range(n_layers):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images of shape (N, in_channels, H, W)."""
        x = self.relu(self.bn(self.stages(self.conv(x))))
        scores: torch.Tensor = self.fc(self.pool(x).flatten(1))
        return scores


def densenet40(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0, stem: int = 16) -> DenseNet:
    """DenseNet-40 with growth rate 12: 1.02 M parameters with the paper's 16-channel stem.

    Parameters
    ----------
    n_classes, in_channels, width
        See `DenseNet`; the width multiplies stem and growth rate.
    stem : int
        24, twice the growth rate, is what several pruning papers' code uses: 1.06 M parameters, 282.9 M MACs.
    """
    return DenseNet(
        40, growth=scaled(12, width), stem=scaled(stem, width), n_classes=n_classes, in_channels=in_channels
    )
