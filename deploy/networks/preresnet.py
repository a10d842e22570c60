"""Pre-activation residual networks of depth 9n + 2 with bottleneck blocks for 32 x 32 images."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import conv, initialise, scaled

__all__ = ["PreActBottleneck", "PreResNet", "preresnet164"]

_EXPANSION = 4


class PreActBottleneck(nn.Module):
    """BatchNorm, ReLU, convolution, three times (1 x 1, 3 x 3, 1 x 1); a 1 x 1 shortcut if the shape changes.

    The shortcut starts at the block's input before its BatchNorm, as in the pruning papers' networks.
    """

    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv(in_channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = conv(channels, channels, 3, stride)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu3 = nn.ReLU()
        self.conv3 = conv(channels, out_channels, 1)
        same = stride == 1 and in_channels == out_channels
        self.shortcut: nn.Module = nn.Identity() if same else conv(in_channels, out_channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), halved (rounded up) at stride 2."""
        y = self.conv1(self.relu1(self.bn1(x)))
        y = self.conv2(self.relu2(self.bn2(y)))
        y = self.conv3(self.relu3(self.bn3(y)))
        out: torch.Tensor = y + self.shortcut(x)
        return out


class PreResNet(nn.Module):
    """A stem, three stages of pre-activation bottlenecks, a last BatchNorm and ReLU, average and classifier.

    Takes images of shape (N, in_channels, H, W) of any size and gives scores of shape (N, n_classes).

    Parameters
    ----------
    depth : int
        9n + 2 for n blocks per stage.
    n_classes, in_channels : int
        See the class.
    width : float
        Multiplies every channel count.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027;
    pruned in Z. Liu et al., "Network Slimming", ICCV 2017, arXiv 1708.06519.
    """

    def __init__(self, depth: int, *, n_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 9)
        if remainder or blocks < 1:
            raise ValueError(f"depth is 9n + 2 with n >= 1, got {depth}")
        channels = scaled(16, width)
        self.conv = conv(in_channels, channels, 3)
        stages = []
        for stage, base in enumerate((16, 32, 64)):
            inner, out_channels = scaled(base, width), scaled(base * _EXPANSION, width)
            layers = []
            for block in range(blocks):
                layers.append(PreActBottleneck(channels, inner, out_channels, 2 if stage and not block else 1))
                channels = out_channels
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


def preresnet164(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> PreResNet:
    """PreResNet-164: 1.70 M parameters."""
    return PreResNet(164, n_classes=n_classes, in_channels=in_channels, width=width)
