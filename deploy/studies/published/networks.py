"""ImageNet networks of the catalogue that no library provides: other strides, another head, removed blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from deploy.networks.layers import conv, initialise

__all__ = [
    "BUILDERS",
    "OptionalBottleneck",
    "PreActResNet50",
    "VGG16Average",
    "preact_resnet50",
    "resnet50_v1",
    "vgg16_average",
]

_DEPTHS = (3, 4, 6, 3)
_WIDTHS = (64, 128, 256, 512)
_CONVOLUTIONS = (2, 2, 3, 3, 3)


def resnet50_v1() -> nn.Module:
    """ResNet-50 whose blocks halve the image in their first 1 x 1 convolution: 25.56 M parameters, 3.86 G MACs.

    torchvision's network halves it in the 3 x 3 convolution (4.09 G MACs); everything else is the same, names included.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
    """
    from torchvision.models import resnet50
    from torchvision.models.resnet import Bottleneck

    network: nn.Module = resnet50(weights=None)
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return network


class VGG16Average(nn.Module):
    """VGG-16 without its fully connected layers: thirteen convolutions, an average over the image, one linear layer.

    The last stage is averaged at 14 x 14, without pooling after it. Takes images of shape (N, 3, 224, 224) and gives
    scores of shape (N, 1000).

    Parameters
    ----------
    widths : sequence of int
        Output channels of the thirteen convolutions.

    Raises
    ------
    ValueError
        There are not thirteen widths.

    References
    ----------
    J.-H. Luo, J. Wu, W. Lin, "ThiNet", ICCV 2017, arXiv 1707.06342, section 4.2.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != sum(_CONVOLUTIONS):
            raise ValueError(f"VGG-16 has {sum(_CONVOLUTIONS)} convolutions, got {len(widths)} widths")
        layers: list[nn.Module] = []
        remaining = iter(widths)
        channels = 3
        for stage, depth in enumerate(_CONVOLUTIONS):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                width = next(remaining)
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 1000)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images."""
        scores: torch.Tensor = self.fc(self.pool(self.features(x)).flatten(1))
        return scores


def vgg16_average(*, widths: Sequence[int]) -> VGG16Average:
    """Make a `VGG16Average`."""
    return VGG16Average(widths)


class OptionalBottleneck(nn.Module):
    """A pre-activation bottleneck of the ImageNet networks; its residual branch may be left out.

    The projection of a stage's first block starts after the first BatchNorm and ReLU, so both stay when the branch is
    removed. A later block without its branch is an identity and has no parameters.

    Parameters
    ----------
    in_channels, channels : int
        Channels of the input, and of the two inner convolutions; the output has four times as many.
    stride : int
        Stride of the 3 x 3 convolution and of the projection.
    branch : bool
        False leaves the residual branch out.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, branch: bool) -> None:
        super().__init__()
        out_channels = 4 * channels
        first = in_channels != out_channels or stride != 1
        self.before: nn.Module = nn.Identity()
        if branch or first:
            self.before = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        self.projection = conv(in_channels, out_channels, 1, stride) if first else None
        self.branch: nn.Module | None = None
        if branch:
            self.branch = nn.Sequential(
                conv(in_channels, channels, 1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                conv(channels, channels, 3, stride),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                conv(channels, out_channels, 1),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_channels, H, W) to (N, 4 * channels, H', W')."""
        ready = self.before(x)
        shortcut: torch.Tensor = x if self.projection is None else self.projection(ready)
        return shortcut if self.branch is None else self.branch(ready) + shortcut


class PreActResNet50(nn.Module):
    """ResNet-50 with pre-activation blocks for 224 x 224 images, some without their residual branch.

    Parameters
    ----------
    removed : sequence of str
        Blocks whose branch is left out, as ``"stage.block"``, both counted from 0.

    Raises
    ------
    ValueError
        A name is not that of a block.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027; in the
    form of Z. Huang, N. Wang, "Data-Driven Sparse Structure Selection", ECCV 2018, arXiv 1707.01213.
    """

    def __init__(self, removed: Sequence[str] = ()) -> None:
        super().__init__()
        known = {f"{stage}.{block}" for stage, depth in enumerate(_DEPTHS) for block in range(depth)}
        if unknown := sorted(set(removed) - known):
            raise ValueError(f"ResNet-50 has no block {unknown[0]!r}; blocks are 0.0 to 3.2")
        self.stem = nn.Sequential(conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        channels = 64
        stages = []
        for stage, (depth, width) in enumerate(zip(_DEPTHS, _WIDTHS, strict=True)):
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                kept = f"{stage}.{block}" not in removed
                blocks.append(OptionalBottleneck(channels, width, stride, branch=kept))
                channels = 4 * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.after = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(channels, 1000)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images of shape (N, 3, H, W)."""
        scores: torch.Tensor = self.fc(self.after(self.stages(self.stem(x))).flatten(1))
        return scores


def preact_resnet50(*, removed: Sequence[str] = ()) -> PreActResNet50:
    """Make a `PreActResNet50`: 25.55 M parameters and 4.09 G MACs with all blocks."""
    return PreActResNet50(removed)


BUILDERS = {
    "published:resnet50-v1": resnet50_v1,
    "published:vgg16-average": vgg16_average,
    "published:preact-resnet50": preact_resnet50,
}
"""Builders by name, in addition to the networks of `deploy.sources.network`."""
