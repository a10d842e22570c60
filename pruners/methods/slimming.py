"""Network Slimming: train with an L1 penalty on BatchNorm scales, then remove the units of smallest scale."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from pruners.base import Method, MethodSettings, Outcome, Trains
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.goal import goal_of
from pruners.errors import MethodError, TargetError
from pruners.importance.reduce import Reduction
from pruners.importance.scores import Scores
from pruners.methods.loops.stepwise import Schedule, Scored, Step, prune_in_steps
from pruners.methods.loops.trained import train
from pruners.recover.scratch import reinitialised
from pruners.recover.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["Slimming", "SlimmingSettings"]

_INITIAL_SCALE = 0.5


class SlimmingSettings(MethodSettings):
    """Settings of `Slimming`; its docstring gives the paper's values."""

    strength: PositiveFloat = Field(1e-4, description="lambda of the L1 penalty on the scales of BatchNorm")
    passes: PositiveInt = Field(
        1, description="trainings with the penalty, each followed by a removal of an equal share of what has to go"
    )
    start: Literal["dense", "scratch"] = Field(
        "dense", description="weights before the first training: the task's, or drawn anew with all scales at 0.5"
    )
    reduction: Reduction = Field("mean", description="over the BatchNorms of one unit: mean, sum or max")
    training: TrainSettings = Field(
        TrainSettings(epochs=160, batch_size=64, nesterov=False, schedule="step", milestones=(80, 120)),
        description="training of each pass; its seed is added to the task's",
    )

    @field_validator("training")
    @classmethod
    def _unscaled(cls, training: TrainSettings) -> TrainSettings:
        if training.precision == "fp16":
            raise ValueError("precision fp16 scales the gradients that the penalty is added to; take bf16 or fp32")
        return training


class Slimming(Method):
    """Train with ``loss + lambda * sum |gamma|`` and remove the units of smallest ``|gamma|`` in the whole network.

    **Training.** After each backward pass ``lambda * sign(gamma)`` is added to the gradient of the BatchNorm scales
    (see `pruners.gates.bn_scales`). Only scales of removable units are penalised; the released code penalises all.

    **Decision.** One threshold on ``|gamma|`` for all units of the network, without normalisation. The paper chooses
    the share of units to remove (a percentile); here the threshold is where the target is met, and units are given
    back while the target still holds, as in every method. A unit with several BatchNorms (channels coupled by residual
    additions) is ranked by the `reduction` of its scales; the paper leaves such channels whole and instead selects
    the inputs of each block's first convolution, by an indexing layer.

    **Channels without BatchNorm** stay whole, and ``history`` lists their groups under ``whole``. A network that has no
    others is refused.

    **Shifts.** A removed channel with a non-zero shift still gave a constant to the next layer, which is lost with it;
    the next pass makes up for it, or after the last pass the caller's fine-tuning.

    ============================= ======== ======================================== ==========================
    experiment                    lambda   training                                 removed units
    ============================= ======== ======================================== ==========================
    VGG-19 on CIFAR               1e-4     SGD, 160 epochs, batch 64, rate 0.1      70 % (CIFAR-100: 50 %)
                                           divided by 10 at 1/2 and 3/4, weight
                                           decay 1e-4
    PreResNet-164, DenseNet-40    1e-5     the same                                 40 %, 60 % (DenseNet: 70 %)
    VGG-A on ImageNet             1e-5     not confirmed                            50 %
    ============================= ======== ======================================== ==========================

    All of these train from scratch with every scale at 0.5 (``start: scratch``) and fine-tune afterwards: 160
    epochs at the training's rates in the authors' repository, 40 epochs at 1e-3 in Liu et al. 2019. The default starts
    from the existing weights, so that none are discarded unasked. By default `training` has the paper's values; one
    that is given takes the defaults of `TrainSettings` for anything it leaves out.

    ``Pruned.history`` has a row for each pass: ``removal`` (from 1), ``units_removed``, ``units_left``, ``macs``,
    ``parameters`` (all after it), ``smallest_scale``, ``median_scale``, ``largest_scale`` (of the units, before it),
    ``whole``.

    References
    ----------
    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
    arXiv:1708.06519.
    """

    name: ClassVar[str] = "slimming"
    paper: ClassVar[str] = (
        "Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, arXiv:1708.06519"
    )
    needs_data: ClassVar[bool] = True
    needs_layers: ClassVar[str] = "BatchNorm"
    Settings: ClassVar[type[MethodSettings]] = SlimmingSettings
    trains: Trains = "fit"
    settings: SlimmingSettings

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.gates.bn_scales import BatchNormScales, scale_members, scale_scores
        from pruners.modules.copies import copy_of

        settings = self.settings
        choices, budget = goal_of(task.target, task.constraints, graph)
        budget.require_reachable(choices)
        bare = [name for name in choices.movable if not scale_members(task.model, graph, name)]
        whole = self._without_scales(task, choices, budget, bare)

        def trained(step: Step) -> nn.Module:
            scratch = step.number == 1 and settings.start == "scratch"
            network = reinitialised(step.model, task.seed) if scratch else copy_of(step.model)
            gate = BatchNormScales(
                network,
                step.present,
                [name for name in step.left.movable if name not in whole],
                strength=settings.strength,
                initial=_INITIAL_SCALE if scratch else None,
            )
            train(task, network, settings.training, name=f"pass-{step.number}", gate=gate)
            gate.fold()
            return network

        def score(step: Step) -> Scored:
            members = {n: scale_members(step.model, step.present, n) for n in step.left.movable if n not in whole}
            scores = scale_scores(step.model, members, settings.reduction)
            return Scored(scores=scores, facts={**_spread(scores), "whole": sorted(whole)})

        def decided(step: Step, scores: Scores, budget: Budget, most: int | None) -> dict[str, int]:
            left = step.left.at_least({name: step.counts[name] for name in whole})
            return decide("global", left, scores, budget, max_removed=most)

        schedule = Schedule(steps=settings.passes)
        return prune_in_steps(self, task, graph, schedule, score, decided, batches=None, train_before=trained)

    def _without_scales(
        self, task: PruningTask, choices: Choices, budget: Budget, without: list[str]
    ) -> frozenset[str]:
        """Return the groups `without` BatchNorm, which stay whole.

        Raises
        ------
        MethodError
            There is no other group, or the ratios or bounds name one of these.
        TargetError
            The target cannot be met by the other groups alone.
        """
        named = without if task.target.of == "ratios" else [name for name in without if name in choices.forced]
        if named or len(without) == len(choices.movable):
            raise MethodError(
                f"method {self.name!r} ranks channels by the scales of BatchNorm, and "
                f"{', '.join(map(repr, named or without))} {'has' if len(named or without) == 1 else 'have'} none that "
                "trains; add BatchNorms, name other layers, or take another method"
            )
        try:
            budget.require_reachable(choices.at_least({name: choices.whole[name] for name in without}))
        except TargetError as error:
            raise TargetError(f"{error}; without BatchNorm, and so whole, stay {', '.join(without)}") from error
        return frozenset(without)


def _spread(scores: Scores) -> dict[str, float]:
    values = [value for own in scores.values() for value in own]
    return {"smallest_scale": min(values), "median_scale": median(values), "largest_scale": max(values)}
