"""`Graph`: a traced network with its channel groups, their costs, and a module that runs it with taps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn

from pruners.channels.group_names import named_as_before
from pruners.channels.grouping import Grouping, group_classes
from pruners.channels.labelling import label_tensors, walk_program
from pruners.channels.labels import Labels, Value
from pruners.channels.outputs import usual_outputs
from pruners.channels.program import Program, constants, export, named_tensors
from pruners.channels.propagation import Propagation
from pruners.channels.residual_blocks import ResidualBlock, find_blocks
from pruners.channels.sites import Site, find_sites
from pruners.channels.survivors import Survivors
from pruners.channels.training_run import record_training
from pruners.channels.whole import refusals, whole_layers
from pruners.cost import AxisSize, BlockCost
from pruners.errors import PlanError, TraceError, TrainingError
from pruners.groups import ChannelGroup
from pruners.modules.calls import NetworkCall, call_of, call_spec
from pruners.modules.plain import plain
from pruners.modules.random_inputs import spec_of
from pruners.plan import CallSpec, InputSpec, PruningPlan
from pruners.policy import Policy

__all__ = ["Graph", "Site", "trace"]

Tap = Callable[[Tensor], Tensor]
_TRAINING_RUNS = 3
"""Training runs recorded, each with its own seed, if the training path of a network cannot be exported."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A traced network.

    Parameters
    ----------
    groups : tuple of ChannelGroup
        All groups in the order in which the network produces them, including fixed ones (with their reason).
    blocks : tuple of ResidualBlock
        Residual branches that can be removed whole.
    inputs : tuple of InputSpec
        Specs of the tensors that it was traced with.
    call : CallSpec or None
        How the call passes them; None: as positional arguments, in order.
    example : NetworkCall
        The call that it was traced with.
    fingerprint : str
        sha256 of parameter names, their shapes and the groups; the weights' values do not matter.
    module : GraphModule
        Runs the network in evaluation mode; shares parameters and buffers with the traced model, so that training
        that model changes it too.
    dynamic_batch : bool
        Whether `module` runs at other batch sizes than the example's.
    sites : Mapping of str to tuple of Site
        For each prunable group the nodes of `module` whose value is one of its feature maps: the value after
        the element-wise chain (normalisation, activation, depthwise convolution) of each producer.
    unknown : Mapping of str to str
        Nodes with an operator that the engine refused, and why.
    whole : Mapping of str to str
        Layers that lose none of their own channels, and why; largest first.
    policy : Policy
        What is pruned where there is a choice.
    program : Program
        What `module` runs.
    grouping : Grouping
        Labels behind the groups.
    tensors : Mapping of str to Value
        Labels of parameters and buffers.
    """

    groups: tuple[ChannelGroup, ...]
    blocks: tuple[ResidualBlock, ...]
    inputs: tuple[InputSpec, ...]
    call: CallSpec | None
    example: NetworkCall = field(repr=False)
    fingerprint: str
    module: fx.GraphModule = field(repr=False)
    dynamic_batch: bool
    sites: Mapping[str, tuple[Site, ...]] = field(repr=False)
    unknown: Mapping[str, str]
    whole: Mapping[str, str]
    policy: Policy
    program: Program = field(repr=False)
    grouping: Grouping = field(repr=False)
    tensors: Mapping[str, Value] = field(repr=False)
    _costs: Mapping[str, BlockCost] = field(repr=False)
    _by_name: Mapping[str, ChannelGroup] = field(repr=False)

    def __repr__(self) -> str:
        prunable = sum(group.prunable for group in self.groups)
        return (
            f"Graph({len(self.groups)} groups, {prunable} of them prunable, {len(self.blocks)} residual blocks, "
            f"{len(self.whole)} layers whole, fingerprint {self.fingerprint[:12]})"
        )

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

    def macs(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Count multiply-accumulates of convolutions, linear layers and matrix products for ONE example.

        Parameters
        ----------
        kept : Mapping of str to int, optional
            Kept units per group; groups not named stay whole.
        blocks : collection of str, optional
            Removed residual blocks.

        Returns
        -------
        int
            Exactly what the compact network counts when it is traced again. Biases are not counted.
        """
        return self._costs["macs"](kept, blocks)

    def parameters(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Count the elements of all parameters (shared ones once, no buffers); see `macs` for the arguments."""
        return self._costs["parameters"](kept, blocks)

    def weight_bytes(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Count the bytes of the saved parameters and buffers, in their own precision; see `macs`."""
        return self._costs["weight_bytes"](kept, blocks)

    def activation_bytes(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Count the fp32 bytes of the outputs of convolutions, linear layers and matrix products; see `macs`.

        For ONE example. Outputs of element-wise operators are left out: runtimes fuse them.
        """
        return self._costs["activation_bytes"](kept, blocks)

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters by name, each as its layer reads it: masked or normalised, if the network does so.

        Criteria read these. A parameter that no weight is computed from is returned as stored; a computed weight has
        no gradient.
        """
        weights: dict[str, Tensor] = dict(self.module.named_parameters(remove_duplicate=False))
        weights = {self.program.tensors[name]: t for name, t in weights.items() if name in self.program.tensors}
        computed = self.grouping.walk.computed
        values = constants(self.module, computed.values())
        return weights | {self.program.tensors[name]: values[node] for name, node in computed.items()}

    def survivors(self, plan: PruningPlan) -> Survivors:
        """Return what a plan leaves of every tensor of the network's program."""
        return Survivors(self.grouping, [group.name for group in self.groups], plan)

    def removed_blocks(self, plan: PruningPlan) -> tuple[ResidualBlock, ...]:
        """Return the residual blocks that a plan removes."""
        return tuple(block for block in self.blocks if block.name in plan.blocks)

    def dropped(self, plan: PruningPlan) -> frozenset[str]:
        """Return the names of parameters and buffers that are removed with a plan's blocks."""
        return frozenset().union(*(block.tensors for block in self.removed_blocks(plan)))

    def run(self, inputs: NetworkCall | tuple[Tensor, ...], taps: Mapping[str, Tap] | None = None) -> Any:
        """Run the network in evaluation mode, replacing the value of some nodes.

        Parameters
        ----------
        inputs : NetworkCall or tuple of Tensor
            Arguments like the example's; another batch size needs `dynamic_batch`.
        taps : Mapping of str to callable, optional
            Name of a node (`Site.node`) -> function of its value that returns what the rest of the network sees
            instead; differentiable if the function is.

        Returns
        -------
        object
            What the network returns.
        """
        leaves = inputs.leaves if isinstance(inputs, NetworkCall) else inputs
        outputs = _Tapped(self.module, taps or {}).run(*leaves, enable_io_processing=False)
        return self.module.graph.process_outputs(outputs)

    def holding(self, reasons: Mapping[str, str]) -> Graph:
        """Return the graph with some groups fixed (name -> reason); plans for it are valid for this one."""
        groups = tuple(replace(one, fixed=reasons.get(one.name, one.fixed)) for one in self.groups)
        by_name = {group.name: group for group in groups}
        return replace(self, groups=groups, whole={**self.whole, **reasons}, _by_name=by_name)

    def check(self, plan: PruningPlan) -> None:
        """Check that a plan was made for this network and may be applied.

        Raises
        ------
        PlanError
            The plan is for another network, prunes a fixed group, or keeps fewer units than a group must keep.
        """
        if plan.graph != self.fingerprint:
            raise PlanError(
                f"the plan was made for another network: it names graph {plan.graph[:12]}, "
                f"this network's is {self.fingerprint[:12]}; trace and plan again"
            )
        unknown = sorted(set(plan.blocks) - {block.name for block in self.blocks})
        if unknown:
            known = ", ".join(block.name for block in self.blocks) or "none"
            raise PlanError(f"the network has no residual block {unknown[0]!r}; it has {known}")
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


def trace(
    model: nn.Module,
    example_inputs: Any,
    *,
    policy: Policy | None = None,
    after: tuple[Graph, PruningPlan] | None = None,
) -> Graph:
    """Trace a network and find its channel groups.

    A copy in evaluation mode is exported; the model is not modified. If evaluation leaves parameters unused
    (auxiliary classifiers), the training mode is exported too, and channels that it ties together are tied.

    Parameters
    ----------
    model : Module
        Any module that torch.export can trace.
    example_inputs : Tensor, tuple, Mapping, (tuple, Mapping) or NetworkCall
        Inputs of one call, each tensor of shape (batch, ...), on the model's device; see
        `pruners.modules.calls.call_of`.
    policy : Policy, optional
        What is pruned where there is a choice; default: that of the graph in `after`.
    after : tuple of Graph and PruningPlan, optional
        Of the network that `model` was pruned from: groups keep their names from that graph. If these differ from the
        names given without `after`, so does the fingerprint: pass this graph to whatever takes a plan made for it.

    Raises
    ------
    InputError
        The network or its inputs are of a kind that cannot be traced.
    TraceError
        torch.export cannot trace the network, or a kind of tensor in it is not understood.
    """
    model = plain(model)
    example = call_of(model, example_inputs)
    if policy is None:
        policy = Policy(outputs=usual_outputs(model)) if after is None else after[0].policy
    policy = policy.model_copy(deep=True)
    program = export(model, example)
    labels = Labels()
    tensors = label_tensors(model, labels, program)
    n_parameter_labels = labels.count
    walk = walk_program(program, tensors, labels, policy)
    every = list(walk.every)
    read = set(program.tensors.values())
    if unread := [name for name, _ in model.named_parameters() if name not in read]:
        every += _walk_training(model, example, tensors, labels, walk, {name.rpartition(".")[0] for name in unread})
    labels.close(every)
    grouping = group_classes(walk, tensors)
    groups = grouping.groups if after is None else named_as_before(after[0].groups, after[1], grouping.groups)
    units = {group.name: group.n_units for group in groups}
    own = {name: tensors[name] for name, _ in model.named_parameters() if name in tensors}

    def sizes(axes: Sequence[tuple[Value, int]]) -> tuple[AxisSize, ...]:
        return tuple(grouping.size(value, axis) for value, axis in axes)

    macs = [(term.node, sizes(term.axes)) for term in walk.mac_terms]
    maps = [(term.node, (*sizes([(term.result, a) for a in term.result.axes]), AxisSize(4))) for term in walk.mac_terms]
    blocks = find_blocks(program, walk, named_tensors(model))
    parameters = _tensor_terms(dict(model.named_parameters()), groups)
    weights = _tensor_terms(_saved_tensors(model), groups, bytes_each=True)
    costs = {
        "macs": BlockCost(units, macs, {b.name: b.nodes for b in blocks}, program.batch),
        "activation_bytes": BlockCost(units, maps, {b.name: b.nodes for b in blocks}, program.batch),
        "parameters": BlockCost(units, parameters, {b.name: b.tensors for b in blocks}),
        "weight_bytes": BlockCost(units, weights, {b.name: b.tensors for b in blocks}),
    }
    return Graph(
        groups=groups,
        blocks=blocks,
        inputs=tuple(spec_of(item) for item in example.tensors),
        call=call_spec(example),
        example=example,
        fingerprint=_fingerprint(model, groups),
        module=program.module,
        dynamic_batch=program.dynamic_batch,
        sites=find_sites(program.module, grouping, groups),
        unknown=refusals(walk, n_parameter_labels),
        whole=whole_layers(labels, own, groups, set(program.tensors.values())),
        policy=policy,
        program=program,
        grouping=grouping,
        tensors=tensors,
        _costs=costs,
        _by_name={group.name: group for group in groups},
    )


def _walk_training(
    model: nn.Module,
    example: NetworkCall,
    tensors: Mapping[str, Value],
    labels: Labels,
    walk: Propagation,
    unread: set[str],
) -> list[Value]:
    """Walk the training path and the modules whose results nobody reads: they run, and must still run when pruned."""
    try:
        programs = [export(model, example, training=True, observed=unread)]
    except (TraceError, TrainingError):
        try:
            programs = [record_training(model, example, seed=seed) for seed in range(_TRAINING_RUNS)]
        except (TraceError, TrainingError):
            # Training is checked again, by running it, before the user's own module is returned.
            return []
    return [value for program in programs for value in walk_program(program, tensors, labels, walk.policy, walk).every]


def _saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    seen: set[int] = set()
    saved = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            saved[name] = tensor
    return saved


def _tensor_terms(
    tensors: Mapping[str, Tensor], groups: tuple[ChannelGroup, ...], *, bytes_each: bool = False
) -> list[tuple[str, tuple[AxisSize, ...]]]:
    per_axis: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for index, group in enumerate(groups):
        for member in group.members:
            per_axis.setdefault((member.path, member.axis), []).append((index, len(member.indices[0])))
    terms = []
    for path, tensor in tensors.items():
        term = [AxisSize(tensor.element_size())] if bytes_each else []
        for axis, size in enumerate(tensor.shape):
            pairs = per_axis.get((path, axis), [])
            in_groups = sum(groups[index].n_units * count for index, count in pairs)
            term.append(AxisSize(size - in_groups, tuple(pairs)))
        terms.append((path, tuple(term)))
    return terms


def _fingerprint(model: nn.Module, groups: tuple[ChannelGroup, ...]) -> str:
    shapes = {name: list(tensor.shape) for name, tensor in named_tensors(model).items()}
    structure = [
        [group.name, group.n_units, bool(group.fixed), [[m.path, m.axis, m.indices] for m in group.members]]
        for group in groups
    ]
    return hashlib.sha256(json.dumps([shapes, structure], sort_keys=True).encode()).hexdigest()
