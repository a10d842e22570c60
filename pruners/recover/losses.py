"""Losses and scores as functions of a network's outputs and their targets."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from pruners.errors import TrainingError
from pruners.recover.metric import Loss, Metric

__all__ = ["loss_function", "score_each"]

_LEAST_ERROR = 1e-10  # 100 dB: an image that is restored exactly has no finite ratio


def loss_function(loss: Loss, label_smoothing: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """Return ``loss(outputs, targets)``: a scalar, averaged over the batch, and over all pixels of images.

    Raises
    ------
    TrainingError
        When called: images and their targets differ in shape.
    """

    def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)

    def of_images(outputs: Tensor, targets: Tensor) -> Tensor:
        _require_alike(outputs, targets)
        return F.l1_loss(outputs, targets) if loss == "l1" else F.mse_loss(outputs, targets)

    return cross_entropy if loss == "cross-entropy" else of_images


def score_each(metric: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the score of each example, of shape (B,).

    Parameters
    ----------
    metric : {"accuracy", "psnr"}
        accuracy
            1 where the largest of the scores is the label's, else 0.
        psnr
            ``10 log10(1 / mean((clamp(output, 0, 1) - target)^2))`` in dB, over all pixels and channels of one
            example, with values in [0, 1]; at most 100.
    outputs : Tensor of shape (B, n_classes) or (B, C, H, W)
        Outputs of the network.
    targets : Tensor of shape (B,) or that of `outputs`
        Labels, or images in [0, 1].

    Raises
    ------
    TrainingError
        Images and their targets differ in shape.
    """
    if metric == "accuracy":
        return (outputs.argmax(1) == targets).double()
    _require_alike(outputs, targets)
    errors = (outputs.clamp(0, 1) - targets).double().square().flatten(1).mean(1)
    return -10 * errors.clamp_min(_LEAST_ERROR).log10()


def _require_alike(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise TrainingError(
            f"the network gives images of {tuple(outputs.shape)}, the targets are {tuple(targets.shape)}"
        )
