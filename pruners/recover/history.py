"""What a training is told, and what it reports: its objective, its epochs, and who hears of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from pruners.recover.metric import Metric

__all__ = ["Epoch", "History", "Objective", "TrainProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch did.

    Parameters
    ----------
    epoch : int
        Counts from 1.
    lr : float
        Learning rate of the last update.
    metric : {"accuracy", "psnr"}
        What the scores are; more is better.
    train_loss, train_score : float
        Over the epoch's batches, while the weights changed; the loss includes label smoothing.
    validation_loss, validation_score : float or None
        After the epoch; None without validation data.
    seconds : float
        Of training, validation left out.
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
    """All epochs of a training, which epoch's weights the network ended with (counts from 1), the largest lr."""

    epochs: tuple[Epoch, ...]
    kept_epoch: int
    lr: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"lr": self.lr, "epochs": [asdict(epoch) for epoch in self.epochs], "kept_epoch": self.kept_epoch}


class Objective(Protocol):
    """What a training minimises in the place of the settings' loss."""

    def __call__(self, outputs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of a batch; runs under the training's autocast.

        Parameters
        ----------
        outputs : Tensor
            What the network gave for `images`, in float32.
        images, labels : Tensor
            On the network's device.
        """

    def to_json(self) -> dict[str, Any]:
        """Return all that it depends on: a checkpoint goes on with the objective that it was made with only."""


class TrainProgress(Protocol):
    """Who wants to know how a training goes on."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Update `step` of `steps` of `epoch` (both count from 1) is done; called every few updates."""

    def epoch(self, row: Epoch) -> None:
        """Hear of an epoch that is done, or was found done in a checkpoint."""
