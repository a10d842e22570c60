"""Score and loss of a network on a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pruners.errors import TrainingError
from pruners.modules.modes import evaluating
from pruners.recover.batches import ordered_batches
from pruners.recover.losses import loss_function, score_each
from pruners.recover.metric import Loss, Metric, loss_of

__all__ = ["Evaluation", "evaluate", "sum_scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Score and loss of a network on a data set.

    Parameters
    ----------
    metric : {"accuracy", "psnr"}
        What `score` is.
    score : float
        Mean over the examples: the share whose largest output is their label, in [0, 1], or the peak signal-to-noise
        ratio in dB; see `pruners.recover.losses.score_each`. Papers on restoration give the ratio of whole images,
        often of the luminance alone and with cropped borders; scores of image patches are not comparable with theirs.
    loss : float
        Mean cross-entropy in nats, without label smoothing, or mean error of all pixels.
    n : int
        Number of examples.
    """

    metric: Metric
    score: float
    loss: float
    n: int


def evaluate(
    model: nn.Module,
    data: Dataset[Any],
    *,
    metric: Metric = "accuracy",
    loss: Loss | None = None,
    batch_size: int = 256,
    channels_last: bool = False,
    num_workers: int = 0,
) -> Evaluation:
    """Evaluate in eval mode and fp32; the model's mode is restored.

    Parameters
    ----------
    model : Module
        Maps images of shape (B, C, H, W) to scores of shape (B, n_classes), or to images.
    data : Dataset
        Of (Tensor, int), or of (Tensor, Tensor) with images in [0, 1] as targets.
    metric : {"accuracy", "psnr"}
        Metric that fits the targets.
    loss : {"cross-entropy", "l1", "mse"}, optional
        Loss to report; default: cross-entropy for classes, l1 for images.
    batch_size : int
        Changes the result only by rounding.
    channels_last : bool
        Memory format of the images.
    num_workers : int
        Processes that load data.

    Raises
    ------
    TrainingError
        The loss does not fit the metric, images and their targets differ in shape, or an image of the network has a
        value that is not finite.
    """
    batches = ordered_batches(data, batch_size=batch_size, num_workers=num_workers)
    sums = sum_scores(model, batches, metric=metric, loss=loss_of(metric, loss), channels_last=channels_last)
    score, total_loss, n = sums.tolist()
    if not math.isfinite(score):
        raise TrainingError("the network returns images with values that are not finite, so it has no PSNR")
    return Evaluation(metric=metric, score=score / n, loss=total_loss / n, n=int(n))


def sum_scores(model: nn.Module, batches: Any, *, metric: Metric, loss: Loss, channels_last: bool) -> Tensor:
    """Return the sums of scores, losses and examples over `batches`: float64 Tensor of shape (3,)."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mean_loss = loss_function(loss)
    sums = torch.zeros(3, dtype=torch.float64)
    with evaluating(model), torch.inference_mode():
        for images, targets in batches:
            outputs = model(images.to(device, memory_format=layout)).float()
            targets = targets.to(device)
            sums[0] += score_each(metric, outputs, targets).sum().item()
            sums[1] += mean_loss(outputs, targets).item() * len(targets)
            sums[2] += len(targets)
    return sums
