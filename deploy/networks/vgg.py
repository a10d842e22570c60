"""VGG with BatchNorm for 32 x 32 images, as the pruning papers use it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from deploy.networks.layers import conv, initialise, scaled

__all__ = ["VGG", "vgg16", "vgg19"]

_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_VGG19 = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512))


class VGG(nn.Module):
    """Five stages of 3 x 3 convolutions with a max-pool between two stages and an average at the end.

    Takes images of shape (N, in_channels, H, W), H and W at least 16, and gives scores of shape (N, n_classes).

    Parameters
    ----------
    stages : sequence of sequences of int
        Output channels of each convolution, stage by stage.
    hidden : int or None
        Width of a hidden layer (linear, BatchNorm, ReLU) before the classifier; None leaves it out.
    n_classes, in_channels : int
        See the class.
    """

    def __init__(
        self, stages: Sequence[Sequence[int]], *, hidden: int | None, n_classes: int = 10, in_channels: int = 3
    ) -> None:
        super().__init__()
        features: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for stage, widths in enumerate(stages, start=1):
            if stage > 1:
                features[f"pool{stage - 1}"] = nn.MaxPool2d(2)
            for index, width in enumerate(widths, start=1):
                features[f"conv{stage}_{index}"] = conv(channels, width, 3)
                features[f"bn{stage}_{index}"] = nn.BatchNorm2d(width)
                features[f"relu{stage}_{index}"] = nn.ReLU()
                channels = width
        self.features = nn.Sequential(features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        head: OrderedDict[str, nn.Module] = OrderedDict()
        if hidden is not None:
            head["fc1"] = nn.Linear(channels, hidden)
            head["bn1"] = nn.BatchNorm1d(hidden)
            head["relu1"] = nn.ReLU()
            channels = hidden
        head["fc"] = nn.Linear(channels, n_classes)
        self.classifier = nn.Sequential(head)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images of shape (N, in_channels, H, W)."""
        scores: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return scores


def vgg16(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> VGG:
    """VGG-16 with BatchNorm and a 512-wide hidden layer: 14,987,722 parameters, 313,463,808 MACs at 3 x 32 x 32.

    References
    ----------
    K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks", ICLR 2015, arXiv 1409.1556; the CIFAR form is that
    of H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710, Table 1.
    """
    stages = [[scaled(channels, width) for channels in stage] for stage in _VGG16]
    return VGG(stages, hidden=scaled(512, width), n_classes=n_classes, in_channels=in_channels)


def vgg19(*, n_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> VGG:
    """VGG-19 with BatchNorm and no hidden layer: 20.04 M parameters.

    References
    ----------
    Z. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, arXiv 1708.06519,
    Table 1.
    """
    stages = [[scaled(channels, width) for channels in stage] for stage in _VGG19]
    return VGG(stages, hidden=None, n_classes=n_classes, in_channels=in_channels)
