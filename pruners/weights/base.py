"""`WeightMethod`: base class of methods that set single weights to zero and leave all shapes unchanged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, final

from pydantic import Field

from pruners.base import MethodSettings, PruningMethod
from pruners.errors import NothingToPruneError, TargetError, VerificationError
from pruners.modules.modes import copy_modes
from pruners.modules.plain import plain
from pruners.modules.state import state_of
from pruners.plan import PruningPlan
from pruners.target import Constraints
from pruners.task import Pruned, PruningTask

if TYPE_CHECKING:
    from torch import nn

    from pruners.weights.task import WeightTask

__all__ = ["WeightMethod", "WeightSettings"]


class WeightSettings(MethodSettings):
    """Settings common to all methods that set weights to zero."""

    layers: Literal["all", "convolutions"] = Field("all", description="layers whose weights may be set to zero")
    scope: Literal["global", "local", "lamp"] = Field(
        "global", description="what is compared: global, local (within a layer) or lamp"
    )


class WeightMethod(PruningMethod):
    """A method that sets single weights to zero: "unstructured" pruning.

    The network keeps its shapes, its FLOPs and its parameters; dense runtimes compute with the zeros and gain nothing.
    These methods serve as controls of what accuracy allows. A target of ``params`` is the share of all parameters that
    are not zero; one of ``flops`` or ``macs`` counts the multiplications by non-zero weights, so a runtime would have
    to skip the others. A subclass implements `_sparse`. `Pruned.plan` removes nothing; `Pruned.zeros` is the number of
    zero weights.
    """

    removes = "weights"
    Settings = WeightSettings
    settings: WeightSettings

    @final
    def prune(self, task: PruningTask) -> Pruned:
        """Set weights of a copy of the task's network to zero.

        Raises
        ------
        TraceError
            The network cannot be traced.
        MethodError
            The method lacks data or a way to train, or broke a promise.
        SelectorError, TargetError, NothingToPruneError
            The target or the constraints name unknown layers, cannot be met, or are about channels.
        """
        from pruners.weights.task import weight_task

        self.require_data(task)
        task = replace(task, model=plain(task.model))
        _require_free(task.constraints)
        before = state_of(task.model)
        what = weight_task(task, self.settings.layers, self.settings.scope)
        wanted = what.keep({layer.name: layer.weight(task.model).detach() for layer in what.layers})
        if all(bool(mask.all()) for mask in wanted.values()):
            raise NothingToPruneError(f"method {self.name!r}: no weight would be set to zero; ask for a smaller target")
        model, history = self._sparse(what, what.copy())
        if state_of(task.model) != before:
            raise self._broken("the task's model was modified; work on a copy")
        copy_modes(task.model, model)
        return self._pruned(what, model, history)

    @abstractmethod
    def _sparse(self, what: WeightTask, model: nn.Module) -> tuple[nn.Module, tuple[Mapping[str, Any], ...]]:
        """Return the network with zeros, made from `model` (a copy), and one JSON row per step."""

    def _pruned(self, what: WeightTask, model: nn.Module, history: tuple[Mapping[str, Any], ...]) -> Pruned:
        graph = what.graph
        kept = {layer.name: int((layer.weight(model) != 0).sum()) for layer in what.layers}
        zeros = sum(layer.n_weights - kept[layer.name] for layer in what.layers)
        if what.budget is not None and what.budget.cost(kept) > what.budget.limit * (1 + 1e-9):
            raise VerificationError(
                f"method {self.name!r} left {what.budget.cost(kept) / what.budget.dense:.4f} of the dense cost, "
                f"the target is {what.task.target.kept_fraction}"
            )
        plan = PruningPlan(
            graph=graph.fingerprint,
            inputs=graph.inputs,
            call=graph.call,
            method=self.name,
            settings=self.settings.model_dump(mode="json"),
            sizes={},
            kept={},
        )
        return Pruned(
            model=model,
            plan=plan,
            macs_before=graph.macs(),
            macs_after=graph.macs(),
            params_before=graph.parameters(),
            params_after=graph.parameters(),
            verification={"reference": "zeros", "zeros": zeros, "weights": sum(one.n_weights for one in what.layers)},
            history=history,
            zeros=zeros,
        )


def _require_free(constraints: Constraints) -> None:
    """Check that the given constraints are meaningful for single weights."""
    default = Constraints()
    for name in (
        "multiple_of",
        "min_units",
        "min_fraction",
        "bounds",
        "ranges",
        "max_units_per_step",
        "max_fraction_per_step",
    ):
        if getattr(constraints, name) != getattr(default, name):
            raise TargetError(
                f"{name} constrains channels; a method that sets single weights to zero takes exclude only"
            )
