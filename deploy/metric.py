"""What a network is judged by; the names are those of `pruners.recover.metric`, which a board that measures lacks."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Metric"]

Metric: TypeAlias = Literal["accuracy", "psnr"]
"""Top-1 accuracy in [0, 1] of classes, or mean peak signal-to-noise ratio in dB of images; more is better for both."""
