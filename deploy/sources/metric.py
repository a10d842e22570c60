"""Names of the quality metrics: those of `pruners.recover.metric`, which a board that only measures lacks."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Metric", "require_legal"]

Metric: TypeAlias = Literal["accuracy", "psnr"]
"""Top-1 accuracy in [0, 1] for classes, or mean peak signal-to-noise ratio in dB for images; higher is better."""


def require_legal(metric: Metric, *scores: float | None) -> None:
    """Check that accuracies are in [0, 1].

    Raises
    ------
    ValueError
        One is not in [0, 1].
    """
    for score in scores:
        if metric == "accuracy" and score is not None and not 0 <= score <= 1:
            raise ValueError(f"accuracy is a share in [0, 1], got {score:g}")
