"""Find the groups that prevent a pruned network from keeping its own class, before counts are decided.

Code that computes with sizes (``C // num_heads``), or that runs only in training, can fail on what is left of some
layers. A trial plan removes units from every group; if the user's module does not run with what is left, the groups
that its failing code handles are left whole, and the rest is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from pruners.channels.labels import Value
from pruners.channels.program import named_tensors
from pruners.channels.propagation import operator_name
from pruners.decide.choices import Choices, choices_of
from pruners.decide.goal import budget_of, fast_choices
from pruners.decide.patterns import listed
from pruners.errors import FOREIGN, NothingToPruneError, TargetError, first_line
from pruners.forms.forms import difference, fails_in_training, graph_network
from pruners.forms.graph_cut import REWRITTEN, CutGraph, cut_graph
from pruners.forms.graph_network import GraphNetwork
from pruners.forms.module_form import module_form
from pruners.forms.module_search import Misfit
from pruners.forms.module_sizes import may_misfit
from pruners.graph import Graph
from pruners.groups import removed_positions
from pruners.modules.copies import copy_to_trace
from pruners.modules.outputs import outputs_of
from pruners.plan import PruningPlan
from pruners.target import Constraints
from pruners.task import PruningTask

__all__ = ["OwnClass", "for_own_class", "groups_in_the_way"]

_LEAST = 0.1
_TRIALS = 12
_KEPT = 0.7
_TOLERANCE, _LEAST_RANGE = 1e-2, 1e-6
"""Largest difference of module and graph, relative to the output's range: trials run in the network's precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnClass:
    """What it takes for a network to keep its own class.

    Parameters
    ----------
    constraints : Constraints
        Constraints under which it keeps its class; the given ones if nothing is left whole for that.
    left_whole : str
        Which other groups these leave whole, and why; else empty.
    out_of_reach : str
        Why groups in the way are not left whole; else empty.
    """

    constraints: Constraints
    left_whole: str = ""
    out_of_reach: str = ""


def for_own_class(task: PruningTask, graph: Graph) -> OwnClass:
    """Leave whole the groups in the way of the network's own class, if the target can still be met.

    It can if every other group then still keeps a tenth of its units. Given ratios say what to remove and are followed.
    """
    given = task.constraints
    if given.form == "graph" or task.target.of == "ratios" or isinstance(task.model, GraphNetwork):
        return OwnClass(constraints=given)
    found = groups_in_the_way(task.model, graph, choices_of(graph.groups, given))
    if not found:
        return OwnClass(constraints=given)
    names, reason = listed(tuple(found)), next(iter(found.values()))
    constraints = replace(given, whole=(*given.whole, *found))
    roomy = replace(constraints, min_fraction=max(given.min_fraction, _LEAST))
    try:
        budget = budget_of(task.target, graph)
        reached = budget.met(fast_choices(choices_of(graph.groups, roomy), budget).floor)
    except (NothingToPruneError, TargetError):
        reached = False
    if not reached:
        return OwnClass(constraints=given, out_of_reach=f"the target is too small to leave {names} whole for that")
    return OwnClass(constraints=constraints, left_whole=f"{names}: {reason}")


def groups_in_the_way(model: nn.Module, graph: Graph, choices: Choices) -> dict[str, str] | None:
    """Find the groups that have to stay whole for the network to keep its own class.

    Parameters
    ----------
    choices : Choices
        What may be decided. Only its movable groups are examined.

    Returns
    -------
    dict of str to str or None
        Name of each group -> what the network's code says when it is pruned; empty if nothing is in the way, None if
        so many groups are, or such unknown ones, that nothing else is left.
    """
    whole: dict[str, str] = {}
    failed = False
    for _ in range(_TRIALS):
        plan = _trial_plan(graph, choices, whole)
        if not plan.removes:
            return None
        trial = _Trial(model, graph, plan)
        misfit = trial.misfit() if failed or trial.needed() else None
        if misfit is None:
            return {name: whole[name] for name in choices.movable if name in whole}
        blamed = trial.blamed(misfit, whole.keys())
        if not blamed:
            return None
        failed |= misfit.ran
        whole.update(dict.fromkeys(blamed, misfit.reason))
    return None


def _trial_plan(graph: Graph, choices: Choices, whole: Collection[str]) -> PruningPlan:
    kept = {}
    for name in choices.movable:
        if name not in whole:
            size = graph.group(name).n_units
            count = min((c for c in choices.legal[name] if c < size), key=lambda c: abs(c - _KEPT * size))
            kept[name] = tuple(range(count))
    sizes = {name: graph.group(name).n_units for name in kept}
    return PruningPlan.from_kept(
        kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="trial", settings={}, policy=graph.policy
    )


@dataclass(eq=False)
class _Trial:
    """One plan tried on the user's module."""

    model: nn.Module
    graph: Graph
    plan: PruningPlan
    _modules: Mapping[str, nn.Module] = field(init=False)
    _cut: CutGraph = field(init=False)

    def __post_init__(self) -> None:
        self._modules = dict(self.model.named_modules(remove_duplicate=False))
        survivors = self.graph.survivors(self.plan)
        self._cut = cut_graph(self.graph.program, self.graph.grouping.walk, survivors)

    def needed(self) -> bool:
        """Whether something could go wrong: sizes in code that is not torch's, or tensors that only training reads."""
        program = self.graph.program
        read = set(program.tensors.values())
        fetched = {str(node.target) for node in program.module.graph.nodes if node.op == "get_attr"}
        return (
            any(may_misfit(self._modules.get(change.layer)) for change in self._cut.changes)
            or any(name not in read for name, _ in self.model.named_parameters())
            or not fetched <= program.tensors.keys()
        )

    def misfit(self) -> Misfit | None:
        """Return why the user's module does not do what the graph does; None if it does."""
        gone = removed_positions(self.graph.groups, self.plan)
        expected: list[Tensor] = []

        def disagreement(module: nn.Module) -> str:
            try:
                if not expected:
                    network = graph_network(self.model, self.graph, named_tensors(module), self._cut)
                    expected.extend(outputs_of(network.eval(), self.graph.example))
                got = outputs_of(copy_to_trace(module).eval(), self.graph.example)
                if apart := difference(expected, got, _TOLERANCE, _LEAST_RANGE):
                    return apart
            except FOREIGN as error:
                return f"its code says {first_line(error)}"
            failure = fails_in_training(module, self.graph.example)
            if failure and not fails_in_training(self.model, self.graph.example):
                return f"its training path says {failure}"
            return ""

        made = module_form(self.model, gone, self._cut.changes, disagreement)
        return made if isinstance(made, Misfit) else None

    def blamed(self, misfit: Misfit, whole: Set[str]) -> set[str]:
        """Return further groups to leave whole: those closest to the code that failed, in all modules of its class.

        First those whose sizes it writes; then those of its inputs, for code that asks its input for a size; then all
        that it handles; finally the same for the modules around it.
        """
        if misfit.module is None:
            paths = dict.fromkeys(change.layer for change in self._cut.changes)
            return self._groups([p for p in paths if may_misfit(self._modules.get(p))], _own_rewritten) - whole
        path = misfit.module
        while True:
            kind = type(self._modules[path])
            shared = not isinstance(self._modules[path], (nn.Sequential, nn.ModuleList, nn.ModuleDict))
            alike = [name for name, other in self._modules.items() if name == path or (shared and type(other) is kind)]
            for handles in (_own_rewritten, _entering, _inside):
                if found := self._groups(alike, handles) - whole:
                    return found
            if not path:
                return set()
            path = path.rpartition(".")[0]

    def _groups(self, paths: Collection[str], handles: _Handles) -> set[str]:
        grouping, wanted = self.graph.grouping, frozenset(paths)
        nodes = {item.name for node in self.graph.program.module.graph.nodes for item in handles(node, wanted)}
        values = [value for name in nodes for value in pytree.tree_leaves(grouping.walk.values.get(name))]
        axes = [(value, axis) for value in values if isinstance(value, Value) for axis in value.axes]
        names = {self.graph.groups[number].name for axis in axes for number in grouping.positions(*axis)}
        return names & self.plan.kept.keys()


_Handles: TypeAlias = Callable[[fx.Node, frozenset[str]], Iterable[fx.Node]]


def _own_rewritten(node: fx.Node, paths: frozenset[str]) -> Iterable[fx.Node]:
    if _stack(node)[-1] in paths and operator_name(node.target) in REWRITTEN:
        return (node, *node.all_input_nodes)
    return ()


def _entering(node: fx.Node, paths: frozenset[str]) -> Iterable[fx.Node]:
    if paths.isdisjoint(_stack(node)):
        return ()
    return (item for item in node.all_input_nodes if item.op != "get_attr" and paths.isdisjoint(_stack(item)))


def _inside(node: fx.Node, paths: frozenset[str]) -> Iterable[fx.Node]:
    return () if paths.isdisjoint(_stack(node)) else (node, *node.all_input_nodes)


def _stack(node: fx.Node) -> list[str]:
    return [_path(path) for path, _ in node.meta.get("nn_module_stack", {}).values()] or [""]


def _path(of_a_call: str) -> str:
    """Return the path of a module without the number of its call."""
    return re.sub(r"@\d+", "", of_a_call)
