"""Residual networks of depth 6n + 2 for 32 x 32 images: basic blocks, three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from deploy.networks.layers import conv, initialise, scaled

__all__ = ["BasicBlock", "PadShortcut", "ResNet", "Shortcut", "resnet20", "resnet56", "resnet110"]

Shortcut: TypeAlias = Literal["pad", "projection"]


class PadShortcut(nn.Module):
    """Option A of the paper: take every second pixel and add channels of zeros on both sides; no parameters.

    The numbers of added channels are constants, not derived from the input, so that the shortcut still fits its block
    when channels of the incoming map have been removed together with those they are added to.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / 2), ceil(W / 2))."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Show the added channels."""
        return f"before={self.before}, after={self.after}"


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut around them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module
        if stride == 1:
            self.shortcut = nn.Identity()
        elif shortcut == "pad":
            self.shortcut = PadShortcut(in_channels, out_channels)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H', W'), halved (rounded up) at stride 2."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: torch.Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A stem, three stages of basic blocks, a global average and a linear classifier.

    Takes images of shape (N, in_channels, H, W) of any size and gives scores of shape (N, n_classes).

    Parameters
    ----------
    depth : int
        Layers with weights on the main path: 6n + 2 for n blocks per stage.
    n_classes, in_channels : int
        See the class.
    width : float
        Multiplies every channel count.
    shortcut : {"pad", "projection"}
        Between stages: option A of the paper (no parameters; the one with the published counts), or option B, a 1 x 1
        convolution with BatchNorm, which leaves the channels of one stage independent of the next one's.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385,
    section 4.2.
    """

    def __init__(
        self,
        depth: int,
        *,
        n_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        shortcut: Shortcut = "pad",
    ) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth is 6n + 2 with n >= 1, got {depth}")
        if shortcut not in ("pad", "projection"):
            raise ValueError(f"shortcut is 'pad' or 'projection', got {shortcut!r}")
        widths = [scaled(channels, width) for channels in (16, 32, 64)]
        self.conv = conv(in_channels, widths[0], 3)
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        channels = widths[0]
        stages = []
        for stage, out_channels in enumerate(widths):
            layers = []
            for block in range(blocks):
                layers.append(BasicBlock(channels, out_channels, 2 if stage and not block else 1, shortcut))
                channels = out_channels
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, n_classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images of shape (N, in_channels, H, W)."""
        x = self.stages(self.relu(self.bn(self.conv(x))))
        scores: torch.Tensor = self.fc(self.pool(x).flatten(1))
        return scores


def resnet20(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0, shortcut: Shortcut = "pad") -> ResNet:
    """ResNet-20 of He et al. 2016, Table 6: 0.27 M parameters."""
    return ResNet(20, n_classes=n_classes, in_channels=in_channels, width=width, shortcut=shortcut)


def resnet56(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0, shortcut: Shortcut = "pad") -> ResNet:
    """ResNet-56 of He et al. 2016, Table 6: 853,018 parameters, 125,485,696 MACs at 3 x 32 x 32."""
    return ResNet(56, n_classes=n_classes, in_channels=in_channels, width=width, shortcut=shortcut)


def resnet110(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0, shortcut: Shortcut = "pad") -> ResNet:
    """ResNet-110 of He et al. 2016, Table 6: 1,727,962 parameters, 252,887,680 MACs at 3 x 32 x 32."""
    return ResNet(110, n_classes=n_classes, in_channels=in_channels, width=width, shortcut=shortcut)
