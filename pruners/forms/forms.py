"""Make the compact network in its two forms, and choose which one is returned.

The graph form is cut from the exported program and always exists. The module form is the user's own module with smaller
tensors; it is returned if the two agree.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Literal

import torch
from torch import Tensor, nn

from pruners.channels.labelling import walk_program
from pruners.channels.program import Program, export, named_tensors
from pruners.channels.residual_blocks import find_blocks
from pruners.channels.survivors import Survivors
from pruners.errors import FOREIGN, SurgeryError, TraceError, first_line
from pruners.forms.graph_cut import CutGraph, cut_graph
from pruners.forms.graph_network import GraphNetwork, ProgramGraph, copied
from pruners.forms.module_form import module_form
from pruners.forms.module_search import Misfit
from pruners.forms.module_sizes import may_misfit
from pruners.forms.random_layers import call_random_layers
from pruners.forms.reference import Awake, Reference
from pruners.forms.slicing import slice_without
from pruners.graph import Graph
from pruners.modules.calls import NetworkCall
from pruners.modules.copies import copy_of
from pruners.modules.outputs import LEAST_RANGE, device_of, distance, in_dtype, outputs_of, span_of
from pruners.modules.precision import in_precision, precise
from pruners.plan import PruningPlan

__all__ = ["Form", "compact_network", "cut_tensors", "difference", "fails_in_training", "graph_network"]

Form = Literal["auto", "module", "graph"]

_Positions = Mapping[str, Mapping[int, Sequence[int]]]
_AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Largest difference between the two forms attributed to rounding, relative to the output's range."""


def compact_network(model: nn.Module, plan: PruningPlan, graph: Graph, reference: Reference, form: Form) -> nn.Module:
    """Return the compact network of a plan.

    Parameters
    ----------
    reference : Reference
        Runs of `model`.
    form : {"auto", "module", "graph"}
        ``"auto"``: the user's own module if it agrees with the graph form, else the graph form with its `reason`.

    Raises
    ------
    SurgeryError
        ``form="module"`` and the two forms differ, or the module does not run.
    """
    gone, survivors, dropped = reference.gone, graph.survivors(plan), graph.dropped(plan)
    left_out = [(block.addition, block.stays) for block in graph.removed_blocks(plan)]
    cut = cut_graph(graph.program, graph.grouping.walk, survivors, left_out)

    reason = "it was asked for"
    if isinstance(model, GraphNetwork):
        reason = model.reason
    elif form != "graph":
        judge = _judge(model, graph, reference, cut)
        whole = _whole_modules(graph, plan)
        if whole is None:
            reason = "a module holds several residual blocks, and only some of them go"
        else:
            own = module_form(model, gone, cut.changes, judge.disagreement, removed_blocks=whole)
            if not isinstance(own, Misfit):
                return own
            reason = own.reason
        if form == "module":
            raise SurgeryError(
                f"{type(model).__name__} cannot be made smaller as itself: {reason}; "
                'ask for form="auto" to get it as a graph'
            )
    if graph.program.autocast:
        raise SurgeryError(f"{type(model).__name__} opens an autocast, which a graph form would run without: {reason}")
    evaluation = _evaluation_graph(model, graph, survivors, plan)
    training = _training_graph(model, graph, survivors, plan)
    tensors = cut_tensors(model, gone, dropped)
    return graph_network(model, graph, tensors, cut, training, reason, evaluation).train(model.training)


def graph_network(
    model: nn.Module,
    graph: Graph,
    tensors: Mapping[str, Tensor],
    cut: CutGraph,
    training: ProgramGraph | str = "",
    reason: str = "",
    evaluation: ProgramGraph | None = None,
) -> GraphNetwork:
    """Make the graph form from cut tensors and a cut program, or from `evaluation` in its place."""
    return GraphNetwork(
        tensors,
        not_saved=_not_saved(model),
        evaluation=evaluation or _program_graph(model, cut, graph.program, "constants"),
        training=training,
        original=type(model).__name__ if not isinstance(model, GraphNetwork) else model.original,
        signature=signature(model.forward),
        reason=reason,
        kept=model.kept if isinstance(model, GraphNetwork) else graph.program.kept,
    )


def cut_tensors(model: nn.Module, gone: _Positions, dropped: frozenset[str]) -> dict[str, Tensor]:
    """Cut parameters and buffers, except the `dropped` ones; aliases of one tensor stay aliases."""
    tensors: dict[str, Tensor] = {}
    smaller: dict[int, Tensor] = {}
    for name, tensor in named_tensors(model).items():
        if name in dropped:
            continue
        if id(tensor) not in smaller:
            cut = slice_without(tensor, gone.get(name, {}))
            parameter = isinstance(tensor, nn.Parameter)
            smaller[id(tensor)] = nn.Parameter(cut, requires_grad=tensor.requires_grad) if parameter else cut
        tensors[name] = smaller[id(tensor)]
    return tensors


def _program_graph(model: nn.Module, cut: CutGraph, program: Program, room: str) -> ProgramGraph:
    """Name what a program fetches; tensors that the network has no name for become constants in `room`."""
    fetches, constants = {}, {}
    for target in dict.fromkeys(str(node.target) for node in program.module.graph.nodes if node.op == "get_attr"):
        fetches[target] = program.tensors.get(target, f"{room}.{target.replace('.', '_')}")
        if target not in program.tensors:
            tensor = operator.attrgetter(target)(program.module)
            if not isinstance(tensor, Tensor):
                raise SurgeryError(f"the program runs a part of the network ({target}) under a mode of its own")
            constants[fetches[target]] = tensor.detach().clone()
    graph = copied(cut.graph)  # one cut makes several networks, each with its own layers
    layers = call_random_layers(model, graph, {change.module.partition("@")[0] for change in cut.changes})
    return ProgramGraph(graph, fetches, constants, layers, program.guard)


def _not_saved(model: nn.Module) -> frozenset[str]:
    saved = set(model.state_dict(keep_vars=True))
    return frozenset(name for name in named_tensors(model) if name not in saved)


def _whole_modules(graph: Graph, plan: PruningPlan) -> tuple[str, ...] | None:
    """Return the modules all of whose residual blocks a plan removes; None if it removes only some of a module's."""
    removed = {block.name for block in graph.removed_blocks(plan)}
    paths = dict.fromkeys(name.partition("#")[0] for name in removed)
    if any(block.name not in removed for block in graph.blocks if block.name.partition("#")[0] in paths):
        return None
    return tuple(paths)


def _judge(model: nn.Module, graph: Graph, reference: Reference, cut: CutGraph) -> _Judge:
    """Make the judge from an awake copy; raise if the network does not run."""
    cheap = torch.float64 if any(one.dtype == torch.float64 for one in model.parameters()) else torch.float32
    try:
        awake = reference.awake(cheap, any_batch=graph.dynamic_batch)
        if not any(bool(output.isfinite().any()) for output in awake.given.outputs):
            raise SurgeryError(
                f"{type(model).__name__} gives NaN or infinity only on the example of its graph; "
                "hand in a graph that was traced with inputs which it takes"
            )
    except FOREIGN as error:
        raise SurgeryError(
            f"{type(model).__name__} does not run in fp32 on the example of its graph, or not as a graph: "
            f"{first_line(error)}; hand in a graph that was traced with inputs which it takes"
        ) from error
    return _Judge(model, graph, cut, awake)


class _Judge:
    """Compares a module with the graph form on weights with which the output depends on every channel.

    In double precision, which reveals the smallest wrong attribute, if there is an attribute to choose and the network
    runs in it, else in single. To save time, at the smallest batch size: the check (`pruners.verify`) covers them all.
    """

    def __init__(self, model: nn.Module, graph: Graph, cut: CutGraph, awake: Awake) -> None:
        self._model, self._graph, self._cut, self._awake = model, graph, cut, awake
        self._tensors: dict[str, Tensor] = {}
        self._expected: list[Tensor] = []

    def disagreement(self, module: nn.Module) -> str:
        """Return in one line how `module` differs from the graph form; empty if it does not."""
        if not self._expected:
            self._expect()
        try:
            got = outputs_of(self._loaded(module), self._example)
        except FOREIGN as error:
            return f"its code says {first_line(error)}"
        if apart := difference(self._expected, got, _AGREEMENT[self._dtype], LEAST_RANGE[self._dtype]):
            return apart
        self._tensors.clear()  # room for a copy that trains
        failure = fails_in_training(module, self._example)
        if failure and not fails_in_training(self._model, self._example):
            return f"its training path says {failure}"
        return ""

    def _expect(self) -> None:
        """Run the graph form."""
        parameters = dict(self._model.named_parameters())
        layers = dict(self._model.named_modules(remove_duplicate=False))
        chosen = any(may_misfit(layers.get(change.layer)) for change in self._cut.changes)
        # Autocast leaves double precision alone, so module and graph form agree only there.
        double = chosen or self._graph.program.autocast or any(p.dtype == torch.float64 for p in parameters.values())
        for self._dtype in (torch.float64, torch.float32) if double else (torch.float32,):
            self._example = in_dtype(self._awake.given.inputs, self._dtype)
            tensors = self._in_precision()
            own = {name: nn.Parameter(t, False) if name in parameters else t for name, t in tensors.items()}
            network = in_precision(graph_network(self._model, self._graph, own, self._cut).eval(), self._dtype)
            try:
                self._expected = outputs_of(network, self._example)
            except FOREIGN as error:
                self._tensors.clear()
                if self._dtype == torch.float32:
                    raise SurgeryError(f"the graph form does not run: {first_line(error)}") from error
            else:
                return  # code with a hard-coded precision runs in no other

    def _in_precision(self) -> Mapping[str, Tensor]:
        """Return the awake weights, shared by everything compared."""
        self._tensors = self._tensors or {n: precise(t, self._dtype) for n, t in self._awake.tensors.items()}
        return self._tensors

    def _loaded(self, module: nn.Module) -> nn.Module:
        """Return a copy with the awake weights."""
        own: dict[int, Tensor] = {}
        tensors = self._in_precision()
        for name, tensor in named_tensors(module).items():
            if name in tensors:
                awake = tensors[name]
                own[id(tensor)] = nn.Parameter(awake, False) if isinstance(tensor, nn.Parameter) else awake
        return in_precision(copy_of(module, instead=own).eval(), self._dtype)


def difference(expected: Sequence[Tensor], got: Sequence[Tensor], tolerance: float, least: float) -> str:
    """Return in one line how outputs differ by more than `tolerance` of their range; empty if they do not.

    The range counts as at least `least` of the outputs' size.
    """
    if [item.shape for item in got] != [item.shape for item in expected]:
        return "its outputs have other shapes than those of the graph"
    if not any(bool(want.isfinite().any()) for want in expected):
        return "the graph gives NaN or infinity only: there is nothing to compare it with"
    for want, have in zip(expected, got, strict=True):
        apart = distance(want, have) / span_of(want, least)
        if not apart <= tolerance:
            return f"its output differs by {apart:.1e} of its range from that of the graph"
    return ""


def fails_in_training(module: nn.Module, example: NetworkCall) -> str:
    """Return in one line how a copy of a module fails in training mode; empty if it runs."""
    twin = copy_of(module).train()
    dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.float32)
    inputs = in_dtype(example, dtype)
    calls = [inputs]
    if any(item.ndim and item.shape[0] == 1 for item in inputs.tensors):  # BatchNorm may need two examples
        calls.append(inputs.map(lambda item: torch.cat([item, item]) if item.ndim else item))
    says = ""
    for call in calls:
        try:
            with torch.no_grad(), torch.random.fork_rng():
                call(twin)
        except FOREIGN as error:
            says = first_line(error)
        else:
            return ""
    return says


def _evaluation_graph(model: nn.Module, graph: Graph, survivors: Survivors, plan: PruningPlan) -> ProgramGraph | None:
    """Trace the network for every size that its code allows, and cut it; None if it takes one size only."""
    try:
        program = export(model, graph.example.to(device_of(model)), every_size=True)
    except TraceError:  # the program for the traced sizes remains
        return None
    if program.guard is None:
        return None
    made = _cut_again(model, graph, survivors, plan, program, "constants")
    return made if isinstance(made, ProgramGraph) else None


def _training_graph(model: nn.Module, graph: Graph, survivors: Survivors, plan: PruningPlan) -> ProgramGraph | str:
    """Trace the training mode and cut it, if it ties no more channels together than evaluation mode.

    If it cannot be traced or cut for every size, it is traced for the size of the example.
    """
    made: ProgramGraph | str = ""
    for every_size in (True, False):
        try:
            program = export(model, graph.example.to(device_of(model)), training=True, every_size=every_size)
        except TraceError as error:
            made = str(error)
            continue
        made = _cut_again(model, graph, survivors, plan, program, "training_constants")
        if isinstance(made, ProgramGraph) or program.guard is None:
            break
    return made


def _cut_again(
    model: nn.Module, graph: Graph, survivors: Survivors, plan: PruningPlan, program: Program, room: str
) -> ProgramGraph | str:
    """Cut another program of the network, or return why it cannot be cut."""
    mode = "its training path" if room != "constants" else "the network at other sizes"
    labels = graph.grouping.walk.labels.fork()
    before = labels.partition()
    walk = walk_program(program, graph.tensors, labels, graph.policy, graph.grouping.walk)
    labels.close([*graph.grouping.walk.every, *walk.every])
    if not torch.equal(labels.partition()[: len(before)], before):
        return f"{mode} ties channels together that its evaluation does not"
    left_out: list[tuple[str, str]] = []
    if plan.blocks:
        blocks = {block.name: block for block in find_blocks(program, walk, named_tensors(model))}
        if any(name not in blocks for name in plan.blocks):
            return f"{mode} has not the residual blocks that its evaluation has"
        left_out = [(blocks[name].addition, blocks[name].stays) for name in plan.blocks]
    cut = cut_graph(program, walk, survivors.within(labels), left_out)
    if program.guard is not None and not cut.proportional:
        return f"{mode} computes sizes in a way that is not followed"
    return _program_graph(model, cut, program, room)
