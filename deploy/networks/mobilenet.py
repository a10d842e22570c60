"""MobileNetV1: depthwise separable convolutions, for 32 x 32 images by default."""

from __future__ import annotations

import torch
from torch import nn

from deploy.networks.layers import conv, initialise, scaled

__all__ = ["MobileNetV1", "SeparableBlock", "mobilenetv1"]

# Output channels and stride of each block, Table 1 of the paper.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class SeparableBlock(nn.Module):
    """Depthwise 3 x 3 and pointwise 1 x 1 convolution, each with BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = conv(in_channels, in_channels, 3, stride, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.pointwise = conv(in_channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), halved (rounded up) at stride 2."""
        x = self.relu1(self.bn1(self.depthwise(x)))
        out: torch.Tensor = self.relu2(self.bn2(self.pointwise(x)))
        return out


class MobileNetV1(nn.Module):
    """A stem of 32 channels, 13 separable blocks or the first of them, a global average and a linear classifier.

    Takes images of shape (N, in_channels, H, W) of any size and gives scores of shape (N, n_classes).

    Parameters
    ----------
    n_classes, in_channels : int
        See the class.
    width : float
        The paper's width multiplier alpha.
    stem_stride : {1, 2}
        1 for 32 x 32 images, 2 for the paper's 224 x 224.
    n_blocks : int
        Number of blocks, the first of the 13; 7 end in 512 channels.

    References
    ----------
    A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
    arXiv 1704.04861, Table 1.
    """

    def __init__(
        self,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        stem_stride: int = 1,
        n_blocks: int = len(_BLOCKS),
    ) -> None:
        super().__init__()
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride is 1 or 2, got {stem_stride!r}")
        if not 1 <= n_blocks <= len(_BLOCKS):
            raise ValueError(f"n_blocks is 1 to {len(_BLOCKS)}, got {n_blocks!r}")
        channels = scaled(32, width)
        self.conv = conv(in_channels, channels, 3, stem_stride)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        blocks = []
        for base, stride in _BLOCKS[:n_blocks]:
            out_channels = scaled(base, width)
            blocks.append(SeparableBlock(channels, out_channels, stride))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images of shape (N, in_channels, H, W)."""
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        scores: torch.Tensor = self.fc(self.pool(x).flatten(1))
        return scores


def mobilenetv1(
    *,
    n_classes: int = 10,
    in_channels: int = 3,
    width: float = 1.0,
    stem_stride: int = 1,
    n_blocks: int = len(_BLOCKS),
) -> MobileNetV1:
    """MobileNetV1 for 32 x 32 images: 3.2 M parameters with 10 classes, the paper's 4.2 M with 1000."""
    return MobileNetV1(
        n_classes=n_classes, in_channels=in_channels, width=width, stem_stride=stem_stride, n_blocks=n_blocks
    )
