"""AutoPruner: channel-selection layers, trained layer by layer until they are binary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from pruners.base import Method, MethodSettings, Outcome, Trains
from pruners.decide.units import top_units
from pruners.methods.loops.trained import cut_trained, first_batch, loss_on, train
from pruners.recover.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from pruners.gates.selection import Selection
    from pruners.graph import Graph
    from pruners.plan import PruningPlan
    from pruners.task import PruningTask

__all__ = ["AutoPruner", "AutoPrunerSettings"]

_TRAINING = TrainSettings(
    epochs=3, batch_size=256, lr=1e-3, nesterov=False, weight_decay=5e-4, schedule="step", milestones=(2,)
)
_BINARY = 0.49
"""A v is binary if it is further than this from one half."""


class AutoPrunerSettings(MethodSettings):
    """Settings of `AutoPruner`; its docstring gives the paper's values."""

    training: TrainSettings = Field(_TRAINING, description="training of each step")
    layers_at_once: PositiveInt = Field(1, description="groups that get a selection layer in one step")
    finetune: TrainSettings | None = Field(None, description="training of the compact network afterwards; None: none")
    alpha: tuple[PositiveFloat, PositiveFloat] = Field((0.1, 2.0), description="first and last level of alpha's ramp")
    alpha_step: PositiveFloat = Field(0.1, description="what a correction adds to alpha")
    ramp_every: PositiveInt = Field(
        100, description="updates between two levels of the ramp; fewer if training is too short for 20 levels"
    )
    check_every: PositiveInt = Field(20, description="updates between two corrections, and between two records of v")
    settle_after: float = Field(
        0.13, ge=0, le=1, description="share of the ramp after which v has to be outside [0.2, 0.8]"
    )
    max_weights: PositiveInt = Field(2**26, description="maximum number of weights in one fully-connected layer")

    @field_validator("training")
    @classmethod
    def _ends_where_it_ended(cls, settings: TrainSettings) -> TrainSettings:
        if settings.keep != "last":
            raise ValueError("keep is 'last': the best epoch's v would be those before they are binary")
        return settings


class AutoPruner(Method):
    """Train a small network that reads the activations and learns which channels stay, layer by layer.

    **Selection layer** of a group (`pruners.gates.selection`): ``s = FC(maxpool_2x2(mean over the batch of z))``,
    ``v = sigmoid(alpha * s)``, ``z' = z * v``; it is trained together with the network on ``cross-entropy + lambda *
    (mean(v) - r)^2``, r the share of units to keep and ``lambda = 100 * |r_b - r|`` (10 at first), r_b the share of
    the binarised v. alpha rises along a ramp and, every `check_every` updates, by `alpha_step` if (a) at least the
    share t of the channels is closed (t starts at 95 % and falls by 5 points each time, to no less than 1 - r), and
    if (b) after `settle_after` of the ramp less than 90 % of v are outside [0.2, 0.8].

    **Steps.** Groups in the order of the network, `layers_at_once` in each step: they are gated, the network is trained
    by `training`, v is folded into the layers that read the units, and all but the units of largest v are cut.
    How many stay is decided beforehand: the same share of every group, so that the target is met (the decision
    ``uniform``); that share of each group, in whole units, is its r. Groups that lose nothing get no selection layer.

    **A v that does not become binary.** Nothing forces a v to 0 or 1: alpha ends where its ramp and corrections end,
    and whether the last v settles can depend on the seed or on the processor's rounding. The step accepts such a v:
    its rank decides whether its unit stays, and if so, the layers that read it keep v (0.35, say) as a factor.

    **No silent jump.** Each step's row of the history says how many units v itself would keep (``chosen``) and how many
    stay (``kept``), how many v are not binary (``not_binary``: within 0.49 of one half), how far the worst is from 0
    or 1 (``gap``), and the loss on the task's first training batch before and after the cut, in evaluation mode. The
    progress message also counts the v that are not binary.

    ============== ===================================== ================================== ========= =============
    network        groups                                training                           alpha     alpha_step
    ============== ===================================== ================================== ========= =============
    VGG-16         one after the other                   3 epochs, SGD 1e-3 x0.1 at 2,      0.1 to 2  0.1
                                                         decay 5e-4, batch 256
    ResNet-50      6, 8, 12 and 4 at once, the first two 8 epochs, x0.1 at half             1 to 100  1
                   convolutions of each bottleneck
    MobileNetV2    all at once, r = 0.64                                                    0.1 to    --
                                                                                            100
    ============== ===================================== ================================== ========= =============

    Fine-tuning: 30 epochs, 1e-3 x0.1 every 10, decay 1e-4, batch 256 (ResNet-50, VGG-16, ImageNet); 150 epochs at
    0.01 (MobileNetV2). r was 0.4 (VGG-16), 0.3 and 0.5 (ResNet-50). The defaults are VGG-16's, on ImageNet: a small
    data set needs more epochs and a larger rate.

    **What differs.** The activation is taken, and multiplied, where the group's layers read it: in a plain chain the
    same tensor as after the ReLU, except for pooling in between, and correct in any other network, so that cutting what
    v = 0 closes changes nothing (except for norms across channels). A group with several producers (a residual stage)
    has one v; the paper leaves those alone, as ``constraints.exclude`` does. A group that is read by anything but a
    convolution or linear layer gets no selection layer, stays whole, and is named in the history's first row
    (``ungated``). alpha is not raised further in the last epoch; the official code does that for MobileNetV2 if v is
    not binary. alpha's levels span the whole training; a training too short for 20 levels of `ramp_every` updates has
    20 shorter ones. Corrections use the last recorded v for the share at the sides. FC biases start at zero. v is
    averaged over processes before it is recorded. The selection layers are for one input size, and at 224x224 one for
    64 channels has 51 million weights: `max_weights` refuses larger ones.

    Unconfirmed: the paper's own text was not at hand. Procedure and values are those of the official code and of
    accounts of the paper; n of the initialisation differs between them (see `SelectionLayer`).

    References
    ----------
    Luo, Wu, "AutoPruner: An End-to-End Trainable Filter Pruning Method for Efficient Deep Model Inference", Pattern
    Recognition 107, 2020, arXiv:1805.08941.
    """

    name: ClassVar[str] = "autopruner"
    paper: ClassVar[str] = (
        "Luo and Wu, AutoPruner: An End-to-End Trainable Filter Pruning Method for Efficient Deep Model Inference, "
        "Pattern Recognition 2020, arXiv:1805.08941"
    )
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = AutoPrunerSettings
    trains: Trains = "fit"
    settings: AutoPrunerSettings

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.methods.autopruner_steps import plan_steps
        from pruners.methods.loops.cutting import retrace

        settings = self.settings
        steps = plan_steps(self, task, graph, together=settings.layers_at_once, max_weights=settings.max_weights)
        batch = first_batch(task)
        history: list[Mapping[str, Any]] = [{"ungated": dict(steps.ungated)}] if steps.ungated else []
        model: nn.Module = task.copy()
        plan: PruningPlan | None = None
        for number, groups in enumerate(steps.chunks, start=1):
            counts = {name: steps.counts[name] for name in groups}
            present = retrace(task, graph, model, plan)
            gate = self._gate(model, present, counts, task.seed + number)
            train(task, model, self.settings.training, name=f"selection-{number}", gate=gate)
            row = {"step": number, **self._row(gate), "kept": counts}
            kept = top_units(gate.scores(), counts)
            gate.fold()
            row["loss_before_cut"] = loss_on(model, batch, task)
            removal = cut_trained(self, task, graph, model, kept, before=plan)
            model, plan = removal.model, removal.plan if plan is None else plan.then(removal.plan)
            row["loss_after_cut"] = loss_on(model, batch, task)
            history.append(row)
            if task.progress is not None:
                task.progress(_step_message(number, len(steps.chunks), row["not_binary"]), number / len(steps.chunks))
        assert plan is not None, "a target below the dense cost takes at least one step"
        if self.settings.finetune is not None:
            train(task, model, self.settings.finetune, name="finetune")
        return Outcome(plan=plan, model=model, history=tuple(history))

    def _gate(self, model: nn.Module, present: Graph, counts: Mapping[str, int], seed: int) -> Selection:
        from pruners.gates.selection import Selection

        settings = self.settings
        return Selection(
            model,
            present,
            {name: count / present.group(name).n_units for name, count in counts.items()},
            alpha=settings.alpha,
            alpha_step=settings.alpha_step,
            ramp_every=settings.ramp_every,
            check_every=settings.check_every,
            settle_after=settings.settle_after,
            max_weights=settings.max_weights,
            seed=seed,
        )

    def _row(self, gate: Selection) -> dict[str, Any]:
        values = {name: value.double() for name, value in gate.values().items()}
        from_half = [float(v) for value in values.values() for v in (value - 0.5).abs()]
        return {
            "updates": int(gate.updates),
            "alpha": gate.alphas(),
            "chosen": {name: int((value > 0.5).sum()) for name, value in values.items()},
            "not_binary": sum(distance <= _BINARY for distance in from_half),
            "gap": 0.5 - min(from_half),
        }


def _step_message(number: int, of: int, not_binary: int) -> str:
    message = f"step {number} of {of}"
    return f"{message}, {not_binary} v not binary" if not_binary else message
