"""Lottery tickets: train, remove the smallest weights, rewind the others to an early state, train again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeInt

from pruners.base import Trains
from pruners.methods.loops.trained import train
from pruners.recover.settings import TrainSettings
from pruners.weights.base import WeightMethod, WeightSettings

if TYPE_CHECKING:
    from torch import nn

    from pruners.weights.task import WeightTask

__all__ = ["Lottery", "LotterySettings"]

_TRAINING = TrainSettings(epochs=160, batch_size=128, lr=0.1, schedule="step", milestones=(80, 120), nesterov=False)


class LotterySettings(WeightSettings):
    """Settings of `Lottery`."""

    training: TrainSettings = Field(_TRAINING, description="training of each level, the last one included")
    rate: float = Field(0.2, gt=0, lt=1, description="share of the surviving weights removed after each level")
    rewind_updates: NonNegativeInt = Field(
        0, description="survivors are rewound to their values after this many updates; 0: to their first values"
    )
    scratch: bool = Field(True, description="draw new first values; False: the task's own weights are the first")


class Lottery(WeightMethod):
    """Iterative magnitude pruning with rewinding.

    ``theta_0`` is trained to ``theta_T``; the smallest share ``rate`` of the surviving weights is masked; the others
    are rewound to ``theta_k`` (`rewind_updates` = k; k = 0 is the first paper's reset) and trained again, until the
    target is met. After n levels ``(1 - rate)^n`` of the weights are left; the last level removes what the target asks.

    Authors' settings for ResNet-20 and VGG-16 on CIFAR-10: 160 epochs, batches of 128, lr 0.1 divided by 10 at 80 and
    120, weight decay 1e-4, 20 % per level over all layers at once. Resetting to the initial values fails for these
    networks at that rate; rewinding to a small k works once the network is stable to the noise of SGD.

    Two things differ from the authors' code: the optimizer and the learning-rate schedule restart after rewinding
    (theirs continue from update k), and BatchNorm statistics return to update k with the weights.

    References
    ----------
    Frankle, Carbin, "The Lottery Ticket Hypothesis", ICLR 2019, arXiv:1803.03635. Frankle, Dziugaite, Roy, Carbin,
    "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020, arXiv:1912.05671 (rewinding).
    """

    name: ClassVar[str] = "lottery"
    paper: ClassVar[str] = "Frankle and Carbin, The Lottery Ticket Hypothesis, ICLR 2019, arXiv:1803.03635"
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[WeightSettings]] = LotterySettings
    trains: Trains = "fit"
    settings: LotterySettings

    def _sparse(self, what: WeightTask, model: nn.Module) -> tuple[nn.Module, tuple[Mapping[str, Any], ...]]:
        from pruners.gates.masks import WeightMasks
        from pruners.recover.reinitialise import reinitialise_

        settings = self.settings
        if settings.scratch:
            reinitialise_(model, what.task.seed)
        masks = WeightMasks(model, what.names, remember_at=settings.rewind_updates)
        train(what.task, model, settings.training, name="level-0", gate=masks)
        history: list[Mapping[str, Any]] = []
        last = False
        while not last:
            limit, last = self._limit(what, len(history) + 1)
            keep = what.keep(masks.weights(), limit)
            masks.keep(keep)
            masks.rewind()
            history.append({"level": len(history) + 1, "zeros": sum(int((~one).sum()) for one in keep.values())})
            train(what.task, model, settings.training, name=f"level-{len(history)}", gate=masks)
        masks.fold()
        return model, tuple(history)

    def _limit(self, what: WeightTask, level: int) -> tuple[float | None, bool]:
        """Return the cost limit after a level, and whether that is the target."""
        budget = what.budget
        if budget is None:
            return None, True
        share = budget.dense - budget.prunable * (1 - (1 - self.settings.rate) ** level)
        return (share, False) if share > budget.limit else (budget.limit, True)
