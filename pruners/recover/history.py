"""Interfaces of training: its objective, the records of its epochs, and progress callbacks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from pruners.recover.metric import Metric

__all__ = ["Epoch", "History", "Objective", "TrainProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Results of one epoch.

    Parameters
    ----------
    epoch : int
        Counts from 1.
    lr : float
        Learning rate of the last update.
    metric : {"accuracy", "psnr"}
        What the scores are; higher is better.
    train_loss, train_score : float
        Over the epoch's batches, while the weights changed; the loss includes label smoothing.
    validation_loss, validation_score : float or None
        After the epoch; None without validation data.
    seconds : float
        Training time, without validation.
    """

    epoch: int
    lr: float
    metric: Metric
    train_loss: float
    train_score: float
    validation_loss: float | None
    validation_score: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All epochs of a training, the epoch whose weights were kept (counts from 1), and the largest lr."""

    epochs: tuple[Epoch, ...]
    kept_epoch: int
    lr: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"lr": self.lr, "epochs": [asdict(epoch) for epoch in self.epochs], "kept_epoch": self.kept_epoch}


class Objective(Protocol):
    """What a training minimises instead of the settings' loss."""

    def __call__(self, outputs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; runs under the training's autocast.

        Parameters
        ----------
        outputs : Tensor
            The network's outputs for `images`, in float32.
        images, labels : Tensor
            On the network's device.
        """

    def to_json(self) -> dict[str, Any]:
        """Return everything it depends on: a checkpoint resumes only with the objective it was made with."""


class TrainProgress(Protocol):
    """Callbacks for the progress of a training."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Handle the end of update `step` of `steps` in `epoch` (both count from 1); called every few updates."""

    def epoch(self, row: Epoch) -> None:
        """Handle the end of an epoch, or an epoch found finished in a checkpoint."""
