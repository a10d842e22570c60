"""Metrics and training losses, for classes and for images. Imports no torch."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pruners.errors import TrainingError

__all__ = ["Loss", "Metric", "loss_of"]

Metric: TypeAlias = Literal["accuracy", "psnr"]
"""Higher is better for both: share of right classes in [0, 1], or the peak signal-to-noise ratio of images in dB."""

Loss: TypeAlias = Literal["cross-entropy", "l1", "mse"]
"""Of class scores in nats; mean absolute or mean squared error of images."""

_FITTING: dict[Metric, tuple[Loss, ...]] = {"accuracy": ("cross-entropy",), "psnr": ("l1", "mse")}
_TARGETS: dict[Metric, str] = {"accuracy": "classes", "psnr": "images"}


def loss_of(metric: Metric, asked: Loss | None, label_smoothing: float = 0.0) -> Loss:
    """Return the loss that a training minimises: the requested one, else cross-entropy for classes and l1 for images.

    Raises
    ------
    TrainingError
        It does not fit the targets, or label smoothing is set without labels.
    """
    fitting = _FITTING[metric]
    if asked is not None and asked not in fitting:
        allowed = " or ".join(fitting)
        raise TrainingError(
            f"loss {asked} does not fit targets that are {_TARGETS[metric]}; take {allowed}, or leave it out"
        )
    if label_smoothing and metric != "accuracy":
        raise TrainingError("label_smoothing is of classes: the targets are images; leave it out")
    return asked or fitting[0]
