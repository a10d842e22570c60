"""Shared by the super-resolution networks: upsampling by sub-pixel convolutions."""

from __future__ import annotations

from torch import nn

__all__ = ["SCALES", "upsampler"]

SCALES = (2, 3, 4)
"""Supported upscaling factors."""


def upsampler(channels: int, scale: int, *, activation: bool = False) -> nn.Sequential:
    """Make a 3 x 3 convolution and a pixel shuffle by `scale`; two of each, by 2, if the scale is 4.

    Parameters
    ----------
    channels : int
        Channels before and after it.
    scale : {2, 3, 4}
        Factor of height and width.
    activation : bool
        Whether a PReLU follows each shuffle.

    Raises
    ------
    ValueError
        Another scale.

    References
    ----------
    W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, arXiv 1609.05158.
    """
    if scale not in SCALES:
        raise ValueError(f"scale is one of {', '.join(map(str, SCALES))}, got {scale!r}")
    layers: list[nn.Module] = []
    for factor in (2, 2) if scale == 4 else (scale,):
        layers += [nn.Conv2d(channels, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        if activation:
            layers.append(nn.PReLU())
    return nn.Sequential(*layers)
