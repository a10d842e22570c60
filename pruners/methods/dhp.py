"""DHP: differentiable meta pruning. Hypernetworks generate the weights from latents that become sparse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from pruners.base import Method, MethodSettings, Outcome, Trains
from pruners.decide.decisions import decide
from pruners.decide.goal import goal_of, require_one_removal
from pruners.decide.units import top_units
from pruners.methods.loops.trained import cut_trained, first_batch, loss_on, train
from pruners.recover.scratch import reinitialised
from pruners.recover.settings import TrainSettings

if TYPE_CHECKING:
    from pruners.decide.budget import Budget
    from pruners.decide.choices import Choices
    from pruners.gates.latents import Latents
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["DHP", "DHPSettings"]

_SEARCH = TrainSettings(
    epochs=100, batch_size=64, lr=0.1, nesterov=False, schedule="step", milestones=(50,), clip_norm=5.0
)
_CONVERGE = TrainSettings(epochs=300, batch_size=64, lr=0.1, nesterov=False, schedule="step", milestones=(150, 225))


class DHPSettings(MethodSettings):
    """Settings of `DHP`; its docstring gives the paper's values."""

    training: TrainSettings = Field(
        _SEARCH, description="training for the search, which ends early when the target is near"
    )
    converge: TrainSettings | None = Field(
        _CONVERGE, description="training of the compact network afterwards; None: none"
    )
    gamma: NonNegativeFloat = Field(2e-4, description="strength of the proximal step that shrinks the latents")
    threshold: PositiveFloat = Field(5e-3, description="T: a latent below it counts as gone during the search")
    stop_limit: NonNegativeFloat = Field(
        0.02, description="the search ends when the cost is above the target by at most this share of the dense cost"
    )
    check_every: PositiveInt = Field(100, description="updates between two checks of the cost")
    min_survivors: PositiveInt = Field(4, description="latents of a group that the search does not shrink to zero")
    embedding: PositiveInt = Field(8, description="m: size of the embedding of a pair of channels")
    pretrained: bool = Field(
        False, description="start from the network's weights (our variant) instead of drawing everything anew"
    )

    @field_validator("training")
    @classmethod
    def _ends_where_it_ended(cls, settings: TrainSettings) -> TrainSettings:
        if settings.keep != "last":
            raise ValueError("keep is 'last': the best epoch's latents would be those of a search that had not ended")
        return settings


class DHP(Method):
    """Generate the weights from latents of the channels, and shrink the latents until the target is near.

    **Search.** The weight of every convolution and linear layer is generated from the latents of the channels that it
    produces and reads (`pruners.gates.hypernetwork`, with the equations):
    ``min L(y, f(x; z)) + gamma * sum_l ||z_l||_1``, by SGD on everything and a proximal step
    ``z <- sign(z) * max(|z| - eta*gamma, 0)`` after each update (`pruners.gates.latents`). Nothing is masked meanwhile.
    Every `check_every` updates the cost without the units of ``|z| < min(T, the min_survivors-th largest)`` is
    computed, and the search ends when it is within `stop_limit` of the target, or with the epochs of `training`.

    **Landing.** One threshold on |z| of all units, found by bisection: the decision ``global`` with |z| as scores, not
    normalised, which lands on the target like every method (what still fits below it is given back). The paper
    describes a binary search; the official code has none and stops at the first crossing, or silently at the wrong size
    when the epochs run out. Here the history says ``search_finished: false`` in that case, and the landing is exact
    anyway. The minimum of survivors limits only the search; the floors of the landing are the task's constraints.

    **Convergence.** The generated weights become plain ones, are cut, and the compact network is trained by
    `converge`, from epoch 0 of its schedule.

    **A jump.** A latent of zero does not make a weight zero, as B0, b1 and b2 stay. The cut therefore changes what
    the network computes; the history has the loss on the task's first training batch before and after it, in
    evaluation mode, before any convergence.

    ========================== ============================================== ================================= ========
    experiment                 search                                         convergence                       gamma
    ========================== ============================================== ================================= ========
    CIFAR-10 ResNet-20         SGD 0.1, momentum 0.9, decay 1e-4, batch 64,   300 epochs, x0.1 at 150 and 225   2e-4
                               at most 100 epochs, x0.1 at 50
    CIFAR-10 ResNet-56         the same, x0.1 at 25 (38 %) or 20 (50 %)       the same                          3e-4
    CIFAR-10 ResNet-110, -164  as ResNet-20                                   the same                          1e-4
    Tiny-ImageNet MobileNetV1                                                 220 epochs, x0.1 at 200, 205,     5e-5
                                                                              210 and 215
    x4 SRResNet, EDSR          Adam 1e-4, batch 16, targets of 96 x 96        300 epochs                        1e-1
                               (EDSR 192 x 192), at most 60 epochs
    denoising DnCNN, UNet      Adam 1e-4, batch 64 of 64 x 64 (UNet 16 of     60 epochs                         1e-1
                               128 x 128), sigma 70, grey
    ========================== ============================================== ================================= ========

    T is 5e-3 (2e-3 for MobileNetV1), the stop limit 0.02 (0.01 for ResNet-56 at 50 %), m = 8, a check every 100
    batches. Image-restoration networks are trained with the l1 loss of values in [0, 255] without weight decay (Adam
    is ``optimizer: adamw`` with ``weight_decay: 0``); the rate decays every 40 epochs of the search and every 200 of
    the convergence, for denoising every 10 and 40. The defaults are those of ResNet-20. At a rate of 0.1 a latent
    shrinks by 2e-5 per update, so a small data set needs a larger gamma.

    **What differs.** A hypernetwork multiplies the step of a weight: its gradient goes through b2, W2, w1 and Z, with
    m = 8 about ten times that of the weight alone. Networks without BatchNorm diverge at the rates above; the defaults
    therefore clip the gradient's norm at 5, which the official code does not. Channels that are not pruned (images,
    classes, excluded layers) have separate latents in each layer. Linear layers, hidden ones too, are generated like
    convolutions. Weights that are frozen, shared between layers or parametrized stay as they are. As in the official
    code, weight decay acts on latents and generators too. Without `pretrained` every layer redraws its parameters, as
    its class does. `pretrained` is our own variant, untested by the paper: latents start at one, W2 carries the
    network's weights (``W2_ij = W_ij w1_ij^T / |w1_ij|^2``) and the biases are zero, so that the first update sees the
    network as given, and a latent scales its channel. (With the weights in b2 and a small W2 the latents would hardly
    affect them, and pruning would be left to chance.)

    ``Pruned.history`` is one row: ``updates``, ``search_finished``, ``cost_at_threshold`` (share of the dense
    cost that the search itself reached), ``units_below_threshold``, ``largest_removed`` and ``smallest_kept`` (|z|),
    ``loss_before_cut``, ``loss_after_cut``.

    References
    ----------
    Li, Gu, Zhang, Van Gool, Timofte, "DHP: Differentiable Meta Pruning via HyperNetworks", ECCV 2020,
    arXiv:2003.13683. Hyper-parameters and the update are those of the official code; the paper's text was not at hand.
    """

    name: ClassVar[str] = "dhp"
    paper: ClassVar[str] = "Li et al., DHP: Differentiable Meta Pruning via HyperNetworks, ECCV 2020, arXiv:2003.13683"
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = DHPSettings
    trains: Trains = "fit"
    settings: DHPSettings

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.gates.latents import Latents

        settings = self.settings
        choices, budget = goal_of(task.target, task.constraints, graph)
        budget.require_reachable(choices)
        if budget.times:
            # Off the multiple of a slower kernel a count of latents can take longer than the whole group.
            time = budget.cost
            budget = replace(budget, cost=lambda counts: time(choices.rounded_up(counts)))
        model = task.copy() if settings.pretrained else reinitialised(task.model, task.seed)
        gate = Latents(
            model,
            graph,
            groups=choices.movable,
            budget=budget,
            gamma=settings.gamma,
            threshold=settings.threshold,
            stop_limit=settings.stop_limit,
            min_survivors=settings.min_survivors,
            check_every=settings.check_every,
            embedding=settings.embedding,
            carried=settings.pretrained,
            seed=task.seed,
        )
        train(task, model, settings.training, name="search", gate=gate)
        row, kept = self._landed(task, gate, choices, budget)
        gate.fold()
        removal = cut_trained(self, task, graph, model, kept)
        batch = first_batch(task)
        row |= {"loss_before_cut": loss_on(model, batch, task), "loss_after_cut": loss_on(removal.model, batch, task)}
        if settings.converge is not None:
            train(task, removal.model, settings.converge, name="converge")
        return Outcome(plan=removal.plan, model=removal.model, history=(row,))

    def _landed(
        self, task: PruningTask, gate: Latents, choices: Choices, budget: Budget
    ) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
        """Find the threshold that meets the budget; return its history row and the kept units."""
        scores = gate.scores()
        counts = decide("global", choices, scores, budget)
        require_one_removal(task.constraints, choices, counts)
        kept = top_units(scores, {name: counts[name] for name in scores})
        stay = [scores[name][unit] for name, units in kept.items() for unit in units]
        gone = [scores[name][unit] for name, units in kept.items() for unit in {*range(len(scores[name]))} - {*units}]
        row = {
            "updates": int(gate.updates),
            "search_finished": gate.finished,
            "cost_at_threshold": budget.cost(gate.counts()) / budget.dense,
            "units_below_threshold": sum(v < self.settings.threshold for values in scores.values() for v in values),
            "largest_removed": max(gone, default=None),
            "smallest_kept": min(stay),
        }
        return row, kept
