"""`Method`: base class of pruning methods. It traces, checks every promise and cuts; a subclass only decides.

Importing this module imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, final

from pydantic import BaseModel, ConfigDict, ValidationError

from pruners.decide.blocks import groups_inside, held_blocks, without_blocks
from pruners.decide.budget import Budget, nothing_to_prune
from pruners.decide.choices import Choices, choices_of, excluded_groups
from pruners.decide.counts import ratio_counts
from pruners.decide.goal import budget_of, fast_choices, goal_of, require_one_removal
from pruners.decide.landing import landing_of
from pruners.errors import MethodError, NothingToPruneError, TargetError, VerificationError, did_you_mean
from pruners.modules.modes import copy_modes
from pruners.modules.plain import plain
from pruners.modules.state import checksum, state_of
from pruners.plan import PruningPlan
from pruners.task import Pruned, PruningTask

if TYPE_CHECKING:
    from torch import nn

    from pruners.graph import Graph

__all__ = [
    "Method",
    "MethodSettings",
    "Outcome",
    "PruningMethod",
    "Trains",
    "counts_of",
    "key_of",
    "plan_facts",
    "plan_of",
]


Trains: TypeAlias = Literal["", "train", "fit"]


class MethodSettings(BaseModel):
    """Settings of a method: frozen, JSON values only, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method's hook returns to the base class.

    Parameters
    ----------
    plan : PruningPlan
        Relative to the network that was traced.
    model : Module, optional
        The compact network, if the method trained it on the way; else the base class cuts the task's model.
    history : tuple of Mapping
        One JSON row per step of an iterative method.
    """

    plan: PruningPlan
    model: nn.Module | None = None
    history: tuple[Mapping[str, Any], ...] = ()


class PruningMethod(ABC):
    """Base of all methods that can be registered: they remove channels (`Method`) or set single weights to zero.

    A subclass states `name`, `paper`, `needs_data` and `Settings`; one that refuses networks without some kind of
    layer names that kind in `needs_layers` ("BatchNorm") and in its `MethodError`. `removes` says what is removed, and
    `trains` with which of the task's trainings.

    Raises
    ------
    MethodError
        An unknown or illegal setting.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    removes: ClassVar[Literal["channels", "weights"]]
    needs_data: ClassVar[bool] = False
    needs_layers: ClassVar[str] = ""
    Settings: ClassVar[type[MethodSettings]] = MethodSettings
    settings: MethodSettings

    def __init__(self, **settings: Any) -> None:
        try:
            self.settings = self.Settings.model_validate(settings)
        except ValidationError as error:
            raise MethodError(f"method {self.name!r}: {_one_line(error, self.Settings)}") from error

    @classmethod
    def lacking(cls) -> str:
        """Return which required package is not installed, and how to install it; empty if the method can run."""
        return ""

    @property
    def removes_blocks(self) -> bool:
        """Whether whole residual blocks may be removed, by the setting ``structures`` if the method has it."""
        return getattr(self.settings, "structures", "units") != "units"

    @property
    def trains(self) -> Trains:
        """The task's training that it uses with its settings: ``train`` (updates), ``fit`` (epochs), or empty: none.

        ``train`` if it has a setting ``updates_between`` that is not 0; a method that trains in another way says so.
        """
        return "train" if getattr(self.settings, "updates_between", 0) else ""

    @abstractmethod
    def prune(self, task: PruningTask) -> Pruned:
        """Prune the network of `task`, whose model is copied, never modified."""

    def require_data(self, task: PruningTask) -> None:
        """Check that a task provides the data and the training that the method works with.

        Raises
        ------
        MethodError
            One of them is missing.
        """
        if self.needs_data and (task.batches is None or task.loss is None):
            lacking = "batches" if task.batches is None else "a loss"
            raise MethodError(f"method {self.name!r} works on training data: the task has to hand in {lacking}")
        if self.trains == "fit" and task.fit is None:
            raise MethodError(f"method {self.name!r} trains by the epoch: the task has to hand in fit")
        if self.trains == "train" and task.train is None:
            raise MethodError(
                f"method {self.name!r} fine-tunes between removals: the task has to hand in train, or set "
                "updates_between=0"
            )

    def _broken(self, promise: str) -> MethodError:
        return MethodError(
            f"method {self.name!r} ({type(self).__name__}) broke a promise of pruning methods: {promise}"
        )


class Method(PruningMethod):
    """A method that removes channels.

    A subclass states what `PruningMethod` asks for, and implements `_decide`. This class guarantees everything a user
    may rely on: the model is not touched, the plan is legal, excluded groups stay whole, the target is met, the compact
    network equals the masked one, and the reported counts were measured on it.
    """

    removes = "channels"

    @final
    def prune(self, task: PruningTask) -> Pruned:
        """Prune the network of `task`.

        Parameters
        ----------
        task : PruningTask
            Its model is copied, never modified.

        Returns
        -------
        Pruned
            The compact network is of the user's own class if its code allows shrinking, else a
            `pruners.forms.graph_network.GraphNetwork`; in the same train/eval modes and on the same device.

        Raises
        ------
        TraceError
            The network cannot be traced.
        MethodError
            The method needs data that the task lacks, does not apply to this network, or broke one of its promises.
        SelectorError, TargetError, NothingToPruneError
            The target or the constraints name unknown layers, cannot be met, or leave nothing to remove.
        SurgeryError, VerificationError
            The user's module cannot be made smaller, or masked and compact networks differ.
        """
        from pruners.forms.graph_network import GraphNetwork
        from pruners.graph import trace
        from pruners.surgery import apply, for_own_class, policy_of
        from pruners.verify import Reference, verify

        self.require_data(task)
        task = replace(task, model=plain(task.model))
        before = checksum(task.model)
        graph = trace(task.model, task.example_inputs, policy=policy_of(task))
        if not any(group.prunable for group in graph.groups):
            raise nothing_to_prune(graph.whole)
        whole = self._unrankable(task, graph)
        graph = graph.holding(whole)
        if whole and not any(group.prunable for group in graph.groups):
            raise MethodError(f"method {self.name!r} can rank no group: {_listed(whole)}; take another one")
        given, own = task, for_own_class(task, graph)
        task = replace(task, constraints=own.constraints)
        try:
            outcome = self._decide(task, graph)
        except (NothingToPruneError, TargetError):
            if not own.left_whole:
                raise
            task, own = given, replace(own, left_whole="")
            outcome = self._decide(task, graph)
        if checksum(task.model) != before:
            raise self._broken("the task's model was modified; work on a copy")
        if not outcome.plan.removes:
            raise NothingToPruneError(f"method {self.name!r}: the plan removes no unit; ask for a smaller target")
        counts = {name: len(kept) for name, kept in outcome.plan.kept.items()}
        self._check_plan(task, graph, outcome.plan, counts)
        reference = Reference(task.model, outcome.plan, graph)
        form = task.constraints.form
        cut = apply(task.model, outcome.plan, graph=graph, check=False, form=form, reference=reference)
        verification = verify(task.model, outcome.plan, cut, graph=graph, reference=reference)
        compact = cut if outcome.model is None else outcome.model
        if _shapes_of(compact) != _shapes_of(cut):
            raise self._broken("the trained network is not the one that its plan describes")
        copy_modes(task.model, compact)
        macs = verification.macs if compact is cut else None
        if macs is None:
            macs = trace(compact, task.example_inputs, policy=graph.policy).macs()
        measured = {"MACs": macs, "parameters": sum(parameter.numel() for parameter in compact.parameters())}
        gone = outcome.plan.blocks
        predicted = {"MACs": graph.macs(counts, gone), "parameters": graph.parameters(counts, gone)}
        if measured != predicted:
            raise VerificationError(f"the compact network has {measured}, the plan predicts {predicted}")
        return Pruned(
            model=compact,
            plan=outcome.plan,
            macs_before=graph.macs(),
            macs_after=measured["MACs"],
            params_before=graph.parameters(),
            params_after=measured["parameters"],
            verification=verification.to_json(),
            history=outcome.history,
            landing=_landing(task, graph, outcome.plan),
            unranked=_listed(whole),
            form="graph" if isinstance(compact, GraphNetwork) else "module",
            form_reason=_form_reason(compact.reason, own.out_of_reach) if isinstance(compact, GraphNetwork) else "",
            left_whole=own.left_whole,
        )

    @abstractmethod
    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        """Decide which units are kept.

        Parameters
        ----------
        task : PruningTask
            ``task.batches`` and ``task.loss`` are set if the class says ``needs_data``.
        graph : Graph
            Trace of ``task.model``.
        """

    def _unrankable(self, task: PruningTask, graph: Graph) -> Mapping[str, str]:
        """Return the groups that the method cannot rank, with the reason; they stay whole."""
        del task, graph
        return {}

    def _check_plan(self, task: PruningTask, graph: Graph, plan: PruningPlan, counts: Mapping[str, int]) -> None:
        """Check all that needs no weights: the graph, legal counts, excluded groups whole, target met."""
        if plan.graph != graph.fingerprint:
            raise self._broken("its plan was made for another network; join the plans of successive steps")
        groups = {group.name: group for group in graph.groups}
        excluded = excluded_groups(graph.groups, task.constraints.exclude)
        choices = choices_of(graph.groups, task.constraints)
        held = held_blocks(graph.blocks, graph.groups, task.constraints)
        for name in plan.blocks:
            if name not in {block.name for block in graph.blocks}:
                raise self._broken(f"its plan names block {name!r}, which the network does not have")
            if name in held:
                raise self._broken(f"block {name!r} goes, but {held[name]!r} in it is excluded or has bounds")
        for name, count in counts.items():
            if name not in groups or groups[name].n_units != plan.sizes[name]:
                wrong = f"group {name!r} of {plan.sizes[name]} units"
                raise self._broken(f"its plan names {wrong}, which the network does not have")
            if name in excluded:
                raise self._broken(f"group {name!r} is excluded, but loses units")
            if count not in choices.legal.get(name, ()):
                legal = choices.legal.get(name, (groups[name].n_units,))
                raise self._broken(f"group {name!r} keeps {count} units; the constraints allow {list(legal)}")
        left = without_blocks(choices, groups_inside(graph.groups, graph.removed_blocks(plan)))
        if not left.allow(counts):
            name = next(n for n, size in left.forced.items() if counts.get(n, size) not in left.legal[n])
            raise self._broken(f"group {name!r} is whole; the bounds allow {list(choices.legal[name])}")
        if task.target.of == "ratios":
            wanted = ratio_counts(choices, graph.groups, task.target.ratios)
            if plan.blocks or wanted != {**choices.whole, **counts}:
                raise self._broken("its plan does not follow the ratios")
        elif not budget_of(task.target, graph, plan.blocks).met(counts):
            raise self._broken(f"its plan does not meet the target of {task.target.kept_fraction} of {task.target.of}")


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{name!r}: {reason}" for name, reason in reasons.items())


def _form_reason(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _landing(task: PruningTask, graph: Graph, plan: PruningPlan) -> str:
    """Return where the plan landed if that is not close to the target; empty otherwise, and for given ratios."""
    if task.target.of == "ratios":
        return ""
    inside = groups_inside(graph.groups, graph.removed_blocks(plan))
    budget = budget_of(task.target, graph, plan.blocks)
    constraints = replace(task.constraints, ranges={})  # a step that they rule out is legal all the same
    choices = without_blocks(fast_choices(choices_of(graph.groups, constraints), budget), inside)
    counts = {name: len(kept) for name, kept in plan.kept.items() if name not in inside}
    taken_back = {}
    for name in plan.blocks:
        others = [other for other in plan.blocks if other != name]
        taken_back[f"block {name}"] = budget_of(task.target, graph, others).cost(counts)
    landing = landing_of(choices, counts, budget, taken_back)
    return "" if landing.close else str(landing)


def counts_of(task: PruningTask, graph: Graph, decide: Callable[[Choices, Budget], dict[str, int]]) -> dict[str, int]:
    """Return the counts from ``decide(choices, budget)``, or from the ratios if the target gives them."""
    choices, budget = goal_of(task.target, task.constraints, graph)
    counts = choices.floor if task.target.of == "ratios" else decide(choices, budget)
    require_one_removal(task.constraints, choices, counts)
    return counts


def plan_of(
    method: Method, graph: Graph, kept: Mapping[str, tuple[int, ...]], blocks: tuple[str, ...] = ()
) -> PruningPlan:
    """Make the plan of `method` for the traced network `graph`.

    It is made from the kept units of each decided group, and the residual blocks that are removed whole.
    """
    return PruningPlan.from_kept(
        kept,
        {name: graph.group(name).n_units for name in kept},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        call=graph.call,
        method=method.name,
        settings=method.settings.model_dump(mode="json"),
        policy=graph.policy,
        blocks=blocks,
    )


def plan_facts(graph: Graph, counts: Mapping[str, int], plan: PruningPlan) -> dict[str, Any]:
    """Return the history entries for a removal of units and blocks; `counts` are those of the decided groups."""
    kept = {name: len(units) for name, units in plan.kept.items()}
    return {
        "units_removed": plan.removed_units,
        "units_left": sum(counts.values()),
        "blocks_removed": list(plan.blocks),
        "macs": graph.macs(kept, plan.blocks),
        "parameters": graph.parameters(kept, plan.blocks),
    }


def key_of(method: Method, task: PruningTask) -> str:
    """Hash everything that determines a pruning, except its data and how it trains."""
    parts = {
        "method": method.name,
        "settings": method.settings.model_dump(mode="json"),
        "target": asdict(task.target),
        "constraints": asdict(task.constraints),
        "seed": task.seed,
        "network": state_of(task.model),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _one_line(error: ValidationError, settings: type[MethodSettings]) -> str:
    """Return the error in one line: the setting, its value, and what was probably meant."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted(settings.model_fields)
        if meant := did_you_mean(key, known):
            return f"unknown setting {key!r}{meant}"
        return f"unknown setting {key!r} (there are: {', '.join(known)})" if known else f"has no settings, got {key!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"setting {key!r}: {message[:1].lower()}{message[1:]}, got {problem['input']!r}"
