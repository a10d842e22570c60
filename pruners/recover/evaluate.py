"""Accuracy and loss of a classifier on a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from pruners.modes import evaluating
from pruners.recover.batches import ordered_batches

__all__ = ["Evaluation", "count_correct", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a classifier does on a data set.

    Parameters
    ----------
    accuracy : float
        Share of examples whose largest output is their label, in [0, 1].
    loss : float
        Mean cross-entropy in nats, without label smoothing.
    n : int
        Examples.
    """

    accuracy: float
    loss: float
    n: int


def evaluate(
    model: nn.Module,
    data: Dataset[Any],
    *,
    batch_size: int = 256,
    channels_last: bool = False,
    num_workers: int = 0,
) -> Evaluation:
    """Evaluate in eval mode and fp32; the model's mode is restored.

    Parameters
    ----------
    model : Module
        Maps images of shape (B, C, H, W) to scores of shape (B, n_classes).
    data : Dataset
        Of (Tensor, int).
    batch_size : int
        Does not change the result but for rounding.
    channels_last : bool
        Memory format of the images.
    num_workers : int
        Processes that load data.
    """
    sums = count_correct(
        model,
        ordered_batches(data, batch_size=batch_size, num_workers=num_workers),
        channels_last=channels_last,
    )
    correct, loss, n = sums.tolist()
    return Evaluation(accuracy=correct / n, loss=loss / n, n=int(n))


def count_correct(model: nn.Module, batches: Any, *, channels_last: bool) -> Tensor:
    """Sum over `batches`: Tensor of shape (3,), float64: correct answers, cross-entropy, examples."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    sums = torch.zeros(3, dtype=torch.float64)
    with evaluating(model), torch.inference_mode():
        for images, labels in batches:
            scores = model(images.to(device, memory_format=layout)).float()
            labels = labels.to(device)
            sums[0] += (scores.argmax(1) == labels).sum().item()
            sums[1] += F.cross_entropy(scores, labels, reduction="sum").item()
            sums[2] += len(labels)
    return sums
