"""Torch-Pruning's group norm, for comparison: another library decides, and its plan must keep our promises."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from prune_deploy import how_to_install
from pruners.base import Method, Outcome, plan_of
from pruners.decide.choices import choices_of
from pruners.decide.goal import budget_of, fast_choices
from pruners.decide.search import largest_within
from pruners.errors import MethodError, TargetError, first_line
from pruners.target import Constraints

if TYPE_CHECKING:
    from pruners.decide.choices import Choices
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["GroupNorm", "kept_by_library"]

_LIBRARY = "torch_pruning"
_KNOWN = ("multiple_of", "exclude", "ranges", "whole", "form", "attention", "outputs")


class GroupNorm(Method):
    """Have Torch-Pruning remove the same share of every group: the units whose weights have the smallest group norm.

    The library is called as in its examples (`GroupNormPruner`, `GroupMagnitudeImportance`, one step, no regularised
    training before), once for each share that is tried, until the target is met. What it removed becomes a plan, which
    is cut, checked and trained like any other. `multiple_of` is its ``round_to``; of the other constraints it supports
    ``exclude``, and ``ranges`` by trying shares until all counts are within them.

    The library is optional: without it a study leaves the method out.

    References
    ----------
    Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900, section 3.3;
    Torch-Pruning 1.6.
    """

    name: ClassVar[str] = "torch-pruning"
    paper: ClassVar[str] = "Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900 (their library Torch-Pruning)"

    @classmethod
    def lacking(cls) -> str:
        """Return how to install the library; empty if it is installed."""
        return "" if find_spec(_LIBRARY) else f"the library is not installed: {how_to_install('compare')}"

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        if reason := self.lacking():
            raise MethodError(f"method {self.name!r}: {reason}")
        _require_known(task)
        choices, budget = choices_of(graph.groups, task.constraints), budget_of(task.target, graph)
        budget.require_reachable(fast_choices(choices, budget))

        def attempt(share: float) -> tuple[float, dict[str, tuple[int, ...]]] | None:
            kept = kept_by_library(task, graph, choices, 1 - share)
            counts = {name: len(units) for name, units in kept.items()}
            cost = budget.cost(counts)
            return (cost, kept) if cost > budget.limit or choices.allow(counts) else None

        kept = largest_within(attempt, budget.limit, budget.dense)
        if kept is None:
            raise TargetError(
                f"method {self.name!r}: at no share that the library can remove are {budget.limit / budget.dense:.4g} "
                f"of the {budget.of} kept within the constraints: ask for more, or for a smaller multiple_of"
            )
        return Outcome(plan=plan_of(self, graph, kept))


def _require_known(task: PruningTask) -> None:
    for name in Constraints.__dataclass_fields__:
        if name not in _KNOWN and getattr(task.constraints, name) != getattr(Constraints(), name):
            raise MethodError(f"method 'torch-pruning' does not support {name}, only multiple_of and exclude")
    if task.target.of == "ratios":
        raise MethodError("method 'torch-pruning' removes one share of all groups: ask for a cost or a speed")


def kept_by_library(task: PruningTask, graph: Graph, choices: Choices, ratio: float) -> dict[str, tuple[int, ...]]:
    """Prune a copy with the library, and return the kept units of each group that loses some.

    Raises
    ------
    MethodError
        The library fails on the network, or couples channels differently.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    library: Any = import_module(_LIBRARY)
    network = task.copy()
    paths = {layer: path for path, layer in network.named_modules() if isinstance(layer, nn.Linear | _ConvNd)}
    free: dict[str, list[tuple[str, tuple[tuple[int, ...], ...]]]] = {}
    for layer, path in paths.items():
        output = int(isinstance(layer, _ConvTransposeNd))
        for group in graph.groups if path else ():
            for member in group.members if group.name in choices.legal else ():
                if (member.path, member.axis) == (f"{path}.weight", output):
                    free.setdefault(path, []).append((group.name, member.indices))
    gone: dict[str, set[int]] = {path: set() for path in free}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = library.pruner.GroupNormPruner(
                network,
                task.example_inputs,
                importance=library.importance.GroupMagnitudeImportance(),
                pruning_ratio=ratio,
                ignored_layers=[layer for layer, path in paths.items() if path not in free],
                round_to=task.constraints.multiple_of if task.constraints.multiple_of > 1 else None,
            )
            for group in pruner.step(interactive=True):
                for dependency, places in group.items:
                    path = paths.get(dependency.target.module, "")
                    if path in gone and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                        gone[path].update(int(place) for place in places)
                group.prune()
    except Exception as error:  # the library's own: it cannot prune every network
        raise MethodError(f"method 'torch-pruning': the library fails on this network ({first_line(error)})") from error
    return _units_of(free, gone, choices.whole)


def _units_of(
    free: Mapping[str, Sequence[tuple[str, tuple[tuple[int, ...], ...]]]],
    gone: Mapping[str, set[int]],
    sizes: Mapping[str, int],
) -> dict[str, tuple[int, ...]]:
    """Translate the output channels that layers lost into the units that groups keep.

    Parameters
    ----------
    free : Mapping of str to sequence of (str, tuple of tuple of int)
        For each layer the groups of its output channels, and the channels of each unit.
    gone : Mapping of str to set of int
        Output channels that each layer lost.
    sizes : Mapping of str to int
        Units of each group.

    Raises
    ------
    MethodError
        Layers of one group lost different units, or a part of one: the library couples channels differently.
    """
    kept: dict[str, tuple[int, ...]] = {}
    for path, parts in free.items():
        for name, indices in parts:
            units = tuple(unit for unit, places in enumerate(indices) if gone[path].isdisjoint(places))
            whole = all(gone[path].issuperset(indices[unit]) for unit in set(range(len(indices))).difference(units))
            if kept.setdefault(name, units) != units or not whole:
                raise MethodError(
                    f"method 'torch-pruning': the library does not couple the channels of {path!r} as the network "
                    f"does; exclude {path!r}"
                )
    return {name: units for name, units in kept.items() if len(units) < sizes[name]}
