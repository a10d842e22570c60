"""Sparse Structure Selection: scales on units and residual blocks, driven to zero by a proximal gradient."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, field_validator

from pruners.base import Method, MethodSettings, Outcome, Trains, plan_facts
from pruners.decide.blocks import groups_inside, held_blocks, removed_blocks, without_blocks
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.goal import budget_of, goal_of, require_one_removal
from pruners.decide.units import top_units
from pruners.errors import MethodError, TargetError
from pruners.importance.scores import Scores
from pruners.methods.loops.trained import cut_trained, train
from pruners.recover.scratch import reinitialised
from pruners.recover.settings import TrainSettings

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["SSS", "SSSSettings"]


class SSSSettings(MethodSettings):
    """Settings of `SSS`; its docstring gives the paper's values."""

    structures: Literal["units", "blocks", "both"] = Field("both", description="what gets a scale")
    strength: PositiveFloat = Field(0.01, description="gamma: strength of the penalty on the scales")
    unit_strength: PositiveFloat | None = Field(None, description="gamma of the units' scales, if different")
    momentum: float = Field(0.9, ge=0, lt=1, description="mu of the scales' own updates")
    start: Literal["dense", "scratch"] = Field(
        "dense", description="weights before the training: the task's, or drawn anew"
    )
    training: TrainSettings = Field(
        TrainSettings(epochs=100, schedule="step", milestones=(30, 60, 90)),
        description="training of network and scales together; its seed is added to the task's",
    )

    @field_validator("training")
    @classmethod
    def _unscaled(cls, training: TrainSettings) -> TrainSettings:
        if training.precision == "fp16":
            raise ValueError("precision fp16 scales the gradients that the scales are updated by; take bf16 or fp32")
        return training


class SSS(Method):
    """Scale units and residual blocks by lambda, train with the penalty ``gamma * |lambda|_1``, remove the smallest.

    ``min L(W, lambda) + R(W) + gamma * |lambda|_1`` with lambda >= 0: a block computes ``x + lambda * f(x)``, a unit
    ``lambda`` times its feature map. R is weight decay, on the weights alone.

    **Training.** Weights and scales are trained together. After each update of the weights the scales take a step of
    the accelerated proximal gradient at the same rate eta (`pruners.gates.scales`)::

        z = S_(eta*gamma)(lambda - eta * dL/dlambda);  v = z - lambda + mu * v;  lambda = max(0, z + mu * v)

    **Decision.** The paper removes what ended at exactly zero, so gamma decides the size. Here the target does: all
    structures, blocks and units alike, are removed in the order of their scales until it is met, those at zero first.
    A block that would take the network below the target is kept, and units land on the target as in every method. With
    ``structures: blocks`` alone the network lands at or below the target by whole blocks, and ``Pruned.landing`` says
    how far below. What ended at zero, and the cost without just that, is in the history.

    **Scales are folded** into the weights afterwards, so that the network is the one that was trained; the paper needs
    no fine-tuning. A structure that stays with a scale of zero contributes nothing until it is fine-tuned.

    **Differences.** Only blocks with an identity shortcut can be removed (`Graph.blocks`); the released code, which
    scales blocks only, also scales the first block of each stage, behind a projection. Units are the engine's groups:
    channels coupled by residual additions have one scale. Units are scaled where they are read, after activation and
    norm. Groups of a ResNeXt are units if the engine prunes whole groups.

    ============================= ============ ================================================================
    experiment                    gamma        training
    ============================= ============ ================================================================
    ResNet-50 on ImageNet,        0.01 in the  100 epochs, batch 128, rate 0.1 divided by 10 after 30, 60 and
    blocks                        released     90, Nesterov momentum 0.9, weight decay 1e-4, mu 0.9, from
                                  settings     scratch, no fine-tuning
    CIFAR, units and groups       unconfirmed  unconfirmed
    ============================= ============ ================================================================

    The default starts from the existing weights, so that none are discarded unasked, with the table's training unless
    `training` is given. How far scales fall depends on the sum of the learning rates of all updates: a training of few
    updates needs a larger gamma. The history's zeros show whether it was enough.

    ``Pruned.history`` has one row: ``units_removed``, ``units_left`` (outside removed blocks), ``blocks_removed``,
    ``macs``, ``parameters``; ``zero_units`` (a number), ``zero_blocks`` and ``macs_without_zeros``; ``block_scales``;
    and ``unscaled``, the structures without a scale, with the reason.

    References
    ----------
    Huang, Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", ECCV 2018, arXiv:1707.01213.
    """

    name: ClassVar[str] = "sss"
    paper: ClassVar[str] = (
        "Huang, Wang, Data-Driven Sparse Structure Selection for Deep Neural Networks, ECCV 2018, arXiv:1707.01213"
    )
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = SSSSettings
    trains: Trains = "fit"
    settings: SSSSettings

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.gates.scales import StructureScales

        settings = self.settings
        choices, goal = goal_of(task.target, task.constraints, graph)

        def budget(removed: Collection[str]) -> Budget:
            return goal if task.target.of == "ratios" else budget_of(task.target, graph, removed)

        held: dict[str, str] = {}
        blocks: list[str] = []
        if settings.structures != "units" and task.target.of != "ratios":
            held = {
                name: f"{group!r} in it is excluded or has bounds"
                for name, group in held_blocks(graph.blocks, graph.groups, task.constraints).items()
            } | {
                block.name: "the latency table knows no network without it"
                for block in graph.blocks
                if goal.times and block.name not in goal.known_blocks
            }
            blocks = [block.name for block in graph.blocks if block.name not in held]
        if settings.structures == "blocks":
            choices = self._without_units(task, choices, blocks, held)
        budget(blocks).require_reachable(choices)
        network = task.copy() if settings.start == "dense" else reinitialised(task.model, task.seed)
        gate = StructureScales(
            network,
            graph,
            groups=choices.movable,
            blocks=blocks,
            strength=settings.strength,
            unit_strength=settings.unit_strength,
            momentum=settings.momentum,
        )
        choices = self._with_scales(choices, gate.ungated, budget([n for n in blocks if n not in gate.ungated]))
        train(task, network, settings.training, name="scales", gate=gate)
        units, wholes = gate.scores(), gate.block_scores()
        gate.fold()
        facts = {**_zeros(graph, units, wholes), "block_scales": wholes, "unscaled": gate.ungated | held}
        removed = removed_blocks(wholes, units, choices, budget)
        counts = self._counts(task, graph, choices, units, removed, budget(removed))
        kept = top_units(units, {name: count for name, count in counts.items() if name in units})
        cut = cut_trained(self, task, graph, network, kept, removed)
        return Outcome(plan=cut.plan, model=cut.model, history=({**plan_facts(graph, counts, cut.plan), **facts},))

    def _counts(
        self,
        task: PruningTask,
        graph: Graph,
        choices: Choices,
        units: Scores,
        removed: tuple[str, ...],
        budget: Budget,
    ) -> dict[str, int]:
        """Land on the target with the units outside the removed blocks."""
        inside = groups_inside(graph.groups, [block for block in graph.blocks if block.name in removed])
        left = without_blocks(choices, inside)
        counts = decide("global", left, units, budget)
        require_one_removal(task.constraints, choices, {**counts, **dict.fromkeys(inside, 0)})
        return counts

    def _without_units(
        self, task: PruningTask, choices: Choices, blocks: Collection[str], held: Mapping[str, str]
    ) -> Choices:
        """Leave all groups whole.

        Raises
        ------
        MethodError
            The task requires units to be removed, or no block may be removed.
        """
        if task.target.of == "ratios" or choices.forced:
            raise MethodError(
                f"method {self.name!r} with structures blocks removes no units, as ratios or bounds ask for; "
                "take structures units or both"
            )
        if not blocks:
            why = "; ".join(f"{name!r}: {reason}" for name, reason in held.items())
            raise MethodError(
                f"method {self.name!r} with structures blocks: the network has no residual block x + f(x) that may go"
                f"{f' ({why})' if why else ''}; take structures units or both"
            )
        return choices.at_least(choices.whole)

    def _with_scales(self, choices: Choices, ungated: Mapping[str, str], budget: Budget) -> Choices:
        """Leave groups whole if their units have no scale.

        Raises
        ------
        MethodError
            The ratios or bounds name one of these.
        TargetError
            The target cannot be met by the groups with scales alone.
        """
        without = [name for name in choices.movable if name in ungated]
        named = next((name for name in without if name in choices.forced or budget.of == "units"), None)
        if named is not None:
            raise MethodError(f"method {self.name!r}: units of {named!r} cannot be scaled: {ungated[named]}")
        left = choices.at_least({name: choices.whole[name] for name in without})
        try:
            budget.require_reachable(left)
        except TargetError as error:
            reasons = "; ".join(f"{name}: {why}" for name, why in ungated.items())
            raise TargetError(f"{error}; without a scale, and so whole, stay {reasons}") from error
        return left


def _zeros(graph: Graph, units: Scores, blocks: Mapping[str, float]) -> dict[str, Any]:
    """Return what ended at zero (what the paper removes), and the cost of the network without just that."""
    gone = [name for name, scale in blocks.items() if scale == 0]
    counts = {name: max(1, sum(scale > 0 for scale in scales)) for name, scales in units.items()}
    return {
        "zero_units": sum(scale == 0 for scales in units.values() for scale in scales),
        "zero_blocks": gone,
        "macs_without_zeros": graph.macs(counts, gone),
    }
