"""`Graph`: a network traced once, its channel groups, what they cost, and a module to run it with taps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

import pruners.labels_contraction
import pruners.labels_elementwise
import pruners.labels_movement
import pruners.labels_reduction  # noqa: F401 - each import registers rules
from pruners.cost import AxisSize, CostFunction
from pruners.errors import PlanError
from pruners.groups import ChannelGroup
from pruners.labels import Labels, Value
from pruners.labels_groups import group_classes
from pruners.labels_propagate import Propagation
from pruners.plan import InputSpec, PruningPlan
from pruners.program import Program, export, named_tensors
from pruners.sites import Site, find_sites
from pruners.trial import fix_what_breaks

__all__ = ["Graph", "Site", "trace"]

Tap = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced network.

    Parameters
    ----------
    groups : tuple of ChannelGroup
        All groups in the order in which the network produces them, also the fixed ones (with their reason).
    inputs : tuple of InputSpec
        Of the example inputs that it was traced with.
    fingerprint : str
        sha256 of parameter names, their shapes and the groups; the weights' values do not matter.
    module : GraphModule
        Runs the network in evaluation mode; shares parameters and buffers with the traced model, so that it
        follows when that model is trained.
    dynamic_batch : bool
        Whether `module` runs at other batch sizes than the example's.
    sites : Mapping of str to tuple of Site
        For each prunable group the nodes of `module` whose value is one of its feature maps: the value after
        the element-wise chain (normalisation, activation, depthwise convolution) of each producer.
    unknown : Mapping of str to str
        Nodes with an operator that the engine refused, and why.
    """

    groups: tuple[ChannelGroup, ...]
    inputs: tuple[InputSpec, ...]
    fingerprint: str
    module: fx.GraphModule = field(repr=False)
    dynamic_batch: bool
    sites: Mapping[str, tuple[Site, ...]] = field(repr=False)
    unknown: Mapping[str, str]
    _macs: CostFunction = field(repr=False)
    _parameters: CostFunction = field(repr=False)
    _by_name: Mapping[str, ChannelGroup] = field(repr=False)

    def group(self, name: str) -> ChannelGroup:
        """Return a group by name.

        Raises
        ------
        PlanError
            There is no such group.
        """
        if name not in self._by_name:
            raise PlanError(f"the network has no channel group {name!r}; it has {', '.join(self._by_name) or 'none'}")
        return self._by_name[name]

    def macs(self, kept: Mapping[str, int] | None = None) -> int:
        """Count multiply-accumulates of convolutions, linear layers and matrix products for ONE example.

        Parameters
        ----------
        kept : Mapping of str to int, optional
            Kept units of some groups; groups not named are whole.

        Returns
        -------
        int
            Exactly what the compact network counts when it is traced again. Biases are not counted.
        """
        return self._macs(kept)

    def parameters(self, kept: Mapping[str, int] | None = None) -> int:
        """Count elements of all parameters, shared ones once, buffers not; see `macs` for `kept`."""
        return self._parameters(kept)

    def run(self, inputs: tuple[Tensor, ...], taps: Mapping[str, Tap] | None = None) -> Any:
        """Run the network in evaluation mode, replacing the value of some nodes.

        Parameters
        ----------
        inputs : tuple of Tensor
            As the network takes them; another batch size needs `dynamic_batch`.
        taps : Mapping of str to callable, optional
            For a node's name (`Site.node`) a function of its value that gives what the rest of the network sees
            in its place; differentiable if the function is.

        Returns
        -------
        object
            What the network returns.
        """
        return _Tapped(self.module, taps or {}).run(*inputs)

    def check(self, plan: PruningPlan) -> None:
        """Check that a plan was made for this network and may be applied.

        Raises
        ------
        PlanError
            The plan is of another network, or prunes what is fixed or below what must stay.
        """
        if plan.graph != self.fingerprint:
            raise PlanError(
                f"the plan was made for another network: it names graph {plan.graph[:12]}, "
                f"this network's is {self.fingerprint[:12]}; trace and plan again"
            )
        for name, kept in plan.kept.items():
            group = self.group(name)
            if plan.sizes[name] != group.n_units:
                raise PlanError(f"group {name!r} has {group.n_units} units, the plan counts {plan.sizes[name]}")
            if group.fixed and len(kept) < group.n_units:
                raise PlanError(f"group {name!r} is fixed: {group.fixed}")
            if len(kept) < group.min_units:
                raise PlanError(f"group {name!r} keeps at least {group.min_units} units, the plan keeps {len(kept)}")


class _Tapped(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, taps: Mapping[str, Tap]) -> None:
        super().__init__(module)
        self._taps = taps

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        tap = self._taps.get(n.name)
        return value if tap is None else tap(value)


def trace(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> Graph:
    """Trace a network and find its channel groups.

    A copy in evaluation mode is exported; the model is not touched. Which groups the module's own code lets
    shrink is tried on copies (one run in evaluation and one in training mode); those that it does not are fixed.

    Parameters
    ----------
    model : Module
        Any module that torch.export can trace.
    example_inputs : tuple of Tensor
        Inputs of one call, on the model's device; batch axis first.

    Raises
    ------
    TraceError
        torch.export can not trace the network, or a kind of tensor in it is not understood.
    """
    program = export(model, example_inputs)
    walk, tensors = _label(program, model)
    grouping = group_classes(walk, tensors)
    groups = fix_what_breaks(model, example_inputs, grouping.groups)
    units = {group.name: group.n_units for group in groups}
    macs = (tuple(grouping.size(value, axis) for value, axis in term.axes) for term in walk.mac_terms)
    return Graph(
        groups=groups,
        inputs=tuple(
            InputSpec(shape=tuple(item.shape), dtype=str(item.dtype).removeprefix("torch.")) for item in example_inputs
        ),
        fingerprint=_fingerprint(model, groups),
        module=program.module,
        dynamic_batch=program.dynamic_batch,
        sites=find_sites(program.module, grouping, groups),
        unknown=walk.unknown,
        _macs=CostFunction(units, macs, program.batch),
        _parameters=CostFunction(units, _parameter_terms(model, groups)),
        _by_name={group.name: group for group in groups},
    )


def _label(program: Program, model: nn.Module) -> tuple[Propagation, dict[str, Value]]:
    labels = Labels()
    own = named_tensors(model)
    by_name: dict[str, Value] = {}
    by_target: dict[str, Value] = {}
    for target, name in program.tensors.items():
        if name not in by_name and own[name].is_floating_point():
            shape = tuple(own[name].shape)
            slots = tuple(
                labels.fresh(size).reshape([1] * axis + [-1] + [1] * (len(shape) - axis - 1))
                for axis, size in enumerate(shape)
                if size > 1
            )
            by_name[name] = Value(shape, slots)
        if name in by_name:
            by_target[target] = by_name[name]
    walk = Propagation(by_target, labels)
    walk.walk(program.module)
    labels.close(walk.every)
    return walk, by_name


def _parameter_terms(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> list[tuple[AxisSize, ...]]:
    per_axis: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for index, group in enumerate(groups):
        for member in group.members:
            per_axis.setdefault((member.path, member.axis), []).append((index, len(member.indices[0])))
    terms = []
    for path, parameter in model.named_parameters():
        term = []
        for axis, size in enumerate(parameter.shape):
            pairs = per_axis.get((path, axis), [])
            whole = sum(groups[index].n_units * count for index, count in pairs)
            term.append(AxisSize(size - whole, tuple(pairs)))
        terms.append(tuple(term))
    return terms


def _fingerprint(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in named_tensors(model).items()}
    structure = [
        [group.name, group.n_units, bool(group.fixed), [[m.path, m.axis, m.indices] for m in group.members]]
        for group in groups
    ]
    return hashlib.sha256(json.dumps([shapes, structure], sort_keys=True).encode()).hexdigest()
