"""Magnitude pruning of single weights: the smallest become zero, in one step or gradually."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from pruners.base import Trains
from pruners.methods.loops.trained import train
from pruners.recover.settings import TrainSettings
from pruners.weights.base import WeightMethod, WeightSettings

if TYPE_CHECKING:
    from torch import nn

    from pruners.weights.task import WeightTask

__all__ = ["Magnitude", "MagnitudeSettings"]


class MagnitudeSettings(WeightSettings):
    """Settings of `Magnitude`."""

    steps: PositiveInt = Field(1, description="removals; with more than one, sparsity rises by a cubic schedule")
    training: TrainSettings | None = Field(None, description="training after each removal, zeros kept; None: none")

    @model_validator(mode="after")
    def _trained(self) -> MagnitudeSettings:
        if self.steps > 1 and self.training is None:
            raise ValueError("several steps need training between them")
        return self


class Magnitude(WeightMethod):
    """Set the smallest weights to zero.

    ``scope="global"`` with ``layers="convolutions"`` in one step, then fine-tuning of the rest, is what Liu et al.
    2019 compare with training from scratch (CIFAR: 30, 60, 80 and 95 % of the weights removed; 40 epochs at lr 0.001).
    Han et al. remove in several rounds with a threshold per layer, ``quality * std`` of its weights [unconfirmed];
    ``scope="local"`` stands in for that with equal shares; survivors keep their values. With `steps`, the share removed
    after removal ``i`` of ``n`` is ``s * (1 - (1 - i / n)^3)``, Zhu and Gupta's schedule.

    Fine-tuning must keep the zeros: `pruners.gates.masks.WeightMasks` does so in any training loop, and `deploy run`
    in its fine-tuning stage.

    References
    ----------
    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015,
    arXiv:1506.02626. Zhu, Gupta, "To Prune, or Not to Prune", 2017, arXiv:1710.01878. Lee et al., "Layer-adaptive
    Sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv:2010.07611 (``scope="lamp"``). Liu et al., "Rethinking
    the Value of Network Pruning", ICLR 2019, arXiv:1810.05270, section 4.3.
    """

    name: ClassVar[str] = "magnitude"
    paper: ClassVar[str] = "Han et al., Learning both Weights and Connections, NeurIPS 2015, arXiv:1506.02626"
    Settings: ClassVar[type[WeightSettings]] = MagnitudeSettings
    settings: MagnitudeSettings

    @property
    def trains(self) -> Trains:
        """``fit``, if training after each removal is asked for."""
        return "" if self.settings.training is None else "fit"

    def _sparse(self, what: WeightTask, model: nn.Module) -> tuple[nn.Module, tuple[Mapping[str, Any], ...]]:
        from pruners.gates.masks import WeightMasks

        masks = WeightMasks(model, what.names)
        history = []
        for step in range(1, self.settings.steps + 1):
            keep = what.keep(masks.weights(), self._limit(what, step))
            masks.keep(keep)
            history.append({"removal": step, "zeros": sum(int((~one).sum()) for one in keep.values())})
            if self.settings.training is not None:
                train(what.task, model, self.settings.training, name=f"removal-{step}", gate=masks)
        masks.fold()
        return model, tuple(history)

    def _limit(self, what: WeightTask, step: int) -> float | None:
        budget, n = what.budget, self.settings.steps
        if budget is None or step == n:
            return None
        return budget.dense - (budget.dense - budget.limit) * (1 - (1 - step / n) ** 3)
