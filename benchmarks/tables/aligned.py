"""Predict the time of a pruned network with its counts rounded to fill the channel blocks of the runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import onnx

from backends import modelfile
from backends.modelfile import node_name
from benchmarks.errors import NotComparableError
from benchmarks.layers.aligned_plan import AlignedPlan, Rounding
from benchmarks.layers.process import Processes, session_process
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.records.measurement import Cost
from benchmarks.subject.cost import cost
from benchmarks.subject.inputs import InputSizes
from benchmarks.subject.model_writer import write_model
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.build import key_here
from benchmarks.tables.draws import aligned, block_units
from benchmarks.tables.fit import layer_sizes
from benchmarks.tables.importance import importance_of
from benchmarks.tables.narrow import Narrower, require_fits, require_made_for
from benchmarks.tables.plan_space import AxisPlace, PlanSpace, Size
from benchmarks.tables.staircases import LayerSizes
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import plan_timer, sizes_of

__all__ = ["aligned_plans", "kept_counts", "why_whole"]

_DESCRIBED: Mapping[Rounding, str] = {
    "not": "its counts as they are",
    "to the nearest": "counts rounded to the nearest",
    "up": "counts rounded up",
    "best": "the best counts",
}


def kept_counts(space: PlanSpace, dense: Path, pruned: Path, same: Mapping[str, str]) -> dict[str, int]:
    """Read from a pruned ONNX file how many units of each group it keeps, and which residual blocks.

    Parameters
    ----------
    space : PlanSpace
        Plan space of the dense file.
    dense, pruned : Path
        ONNX files.
    same : Mapping of str to str
        Maps nodes of the pruned file to those of the dense one.

    Raises
    ------
    NotComparableError
        The pruned file is not the dense network with other widths.
    RecordError
        The plan space was made for another file than `dense`, or does not fit it.
    SettingError
        A count is outside the range of its group.
    BackendError
        A file is missing or broken.
    """
    require_made_for(dense, space)
    graphs = [modelfile.read(path).proto.graph for path in (dense, pruned)]
    require_fits(dense, graphs[0], space)
    lengths = {tensor.name: tuple(tensor.dims) for tensor in graphs[1].initializer}
    named = {node_name(node): node for node in graphs[1].node}
    counterparts = {theirs: named[mine] for mine, theirs in same.items() if mine in named}
    known: list[tuple[Size, int, str]] = []
    for place in space.places:
        if isinstance(place, AxisPlace):
            name = node_name(graphs[0].node[place.node])
            node = counterparts.get(name)
            shape = lengths.get(node.input[place.input], ()) if node and place.input < len(node.input) else ()
            if place.axis < len(shape):
                known.append((place.size, shape[place.axis], name))
    gone = {
        block.name: 0
        for block in space.blocks
        if not any(node_name(graphs[0].node[index]) in counterparts for index in block.nodes)
    }
    left = {index for block in space.blocks if block.name in gone for index in block.nodes}
    n_layers, n_pruned = _n_weighted(graphs[0], left), _n_weighted(graphs[1])
    if n_layers != n_pruned:
        raise NotComparableError(
            f"{pruned} is not {dense} with other widths: it has {n_pruned} layers with weights, not {n_layers}"
        )
    counts = space.complete(gone) if gone else {}
    counts = {**_solved(known), **{name: 0 for name, count in counts.items() if not count}}
    if missing := [group.name for group in space.groups if group.name not in counts]:
        raise NotComparableError(f"{pruned}: no layer tells how many units of group {missing[0]!r} it keeps")
    for size, length, name in known:
        if length != size(counts):
            raise NotComparableError(
                f"{pruned} is not {dense} with other widths: node {name!r} has {length} channels where the plan space "
                f"says {size(counts)}"
            )
    return space.complete(counts)


def why_whole(dense: Path, space: PlanSpace, counts: Mapping[str, int]) -> dict[str, str]:
    """Return why each weighted layer that keeps all its channels does so, as far as the plan space knows."""
    whole = space.whole
    graph = modelfile.read(dense).proto.graph
    groups = {
        name: dict.fromkeys(group for size in sizes.axes for group, _ in size.terms)
        for name, sizes in layer_sizes(graph, space).items()
    }
    n_layers = Counter(group for own in groups.values() for group in own)
    refused = {node_name(graph.node[layer.node]): layer.reason for layer in space.whole_layers}
    why = {}
    for name, own in groups.items():
        if any(counts[group] != whole[group] for group in own):
            continue
        reasons = [f"the plan keeps all of {group}{_shared(n_layers[group])}" for group in own]
        if name in refused:
            reasons.append(f"its own channels cannot be pruned: {refused[name]}")
        why[name] = "; ".join(reasons) or "its channels are in no group that may be pruned"
    return why


def _shared(n_layers: int) -> str:
    return f", which {n_layers} layers produce or consume" if n_layers > 1 else ""


def aligned_plans(
    spec: SubjectSpec,
    space: PlanSpace,
    table: LatencyTable,
    counts: Mapping[str, int],
    *,
    where: str,
    verify: bool,
    best: Callable[[float, Mapping[str, int]], Mapping[str, int] | None] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> tuple[AlignedPlan, ...]:
    """Predict the time of a plan as it is, with its counts rounded to full blocks, and of the best one in full blocks.

    Parameters
    ----------
    spec : SubjectSpec
        The dense ONNX file, the backend, its options and the inputs.
    space : PlanSpace
        Plan space of that file.
    table : LatencyTable
        Refused on another machine, for another file or other options.
    counts : Mapping of str to int
        Kept units of each group, see `kept_counts`.
    where : str
        What the table was read from, for the message.
    verify : bool
        Whether each plan is also measured, in turn with the dense network.
    best : callable, optional
        Decides the plan that keeps the most within a share of the dense network's time, that which the MACs promise:
        ``best(share, steps)``, with `steps` the units of each group that fill a block. Returns None if there is none.
    seed : int
        Seed of the inputs.
    progress : callable, optional
        Receives one short line per step.
    processes, machine
        As in `benchmarks.tables.build.build_table`.

    Returns
    -------
    tuple of AlignedPlan
        That of the network first. Rounded plans that equal an earlier one are left out, and so is the best one where
        MACs are not known.

    Raises
    ------
    NotComparableError
        The table was measured for something else, or with a plan space of other groups or residual blocks.
    RecordError, InputError, BackendError, WorkerError
        As in `benchmarks.tables.build.build_table`.
    """
    say, machine = progress or (lambda _: None), machine or ThisMachine()
    table.require(key_here(spec, space.model_sha256, space.graph, say, machine), where)
    if table.whole != space.whole:
        raise NotComparableError(f"{where} was built with another plan space: build it again with this one")
    whole = {group.name: group.n_units for group in space.groups}
    narrower, sizes = Narrower(spec.model, space), sizes_of(spec)
    dense_cost = _cost_of(narrower, sizes, space.whole)
    found: list[AlignedPlan] = []

    def add(rounded: Rounding, plan: Mapping[str, int]) -> None:
        if same := [each for each in found if each.counts == plan]:
            if rounded == "best":
                found.append(same[0].model_copy(update={"rounded": rounded}))
            return
        found.append(
            AlignedPlan(
                rounded=rounded,
                counts=dict(plan),
                importance=importance_of(whole, plan),
                macs_share=_macs_share(dense_cost, _cost_of(narrower, sizes, plan)),
                predicted_share=table.predict_ns(plan) / table.measured_dense_ns,
            )
        )

    add("not", counts)
    layers = layer_sizes(modelfile.read(spec.model).proto.graph, space)
    steps = block_units(space, layers, table.block)
    for rounded, plan in _rounded(space, layers, counts, table.block).items():
        add(rounded, plan)
    promised = found[0].macs_share
    if best is not None and promised is not None:
        say("decide the best plan in full blocks")
        if (decided := best(promised, steps)) is not None:
            add("best", decided)
    if not verify:
        return tuple(found)

    purpose = f"aligned plans of {spec.model}"
    measured: list[AlignedPlan] = []
    with plan_timer(spec, space, purpose=purpose, seed=seed, say=say, processes=processes, machine=machine) as timer:
        for each in found:
            share = next((other.measured_share for other in measured if other.counts == each.counts), None)
            if share is None:
                say(f"measure the plan in turn with the dense network: {_DESCRIBED[each.rounded]}")
                share = timer.share(each.counts)
            measured.append(each.model_copy(update={"measured_share": share}))
    return tuple(measured)


def _rounded(
    space: PlanSpace, layers: Mapping[str, LayerSizes], counts: Mapping[str, int], block: int
) -> dict[Rounding, dict[str, int]]:
    """Return the counts rounded to full blocks, at most all units; residual blocks stay as they are."""
    shares = {group.name: counts[group.name] / group.n_units for group in space.groups}
    steps = block_units(space, layers, block)
    up = {
        group.name: min(-(-counts[group.name] // steps[group.name]) * steps[group.name], group.n_units)
        for group in space.groups
    }
    blocks = {each.name: counts[each.name] for each in space.blocks}
    return {
        "to the nearest": space.complete({**aligned(space, layers, shares, block), **blocks}),
        "up": space.complete({**up, **blocks}),
    }


def _n_weighted(graph: onnx.GraphProto, without: Collection[int] = ()) -> int:
    constants = frozenset(tensor.name for tensor in graph.initializer)
    return sum(
        weight_slot(node, constants) is not None for index, node in enumerate(graph.node) if index not in without
    )


def _solved(known: list[tuple[Size, int, str]]) -> dict[str, int]:
    """Solve for the groups one by one, each from a size in which it is the only unknown."""
    counts: dict[str, int] = {}
    progress = True
    while progress:
        progress = False
        for size, length, _ in known:
            unknown = [(group, each) for group, each in size.terms if group not in counts]
            if len(unknown) == 1:
                group, each = unknown[0]
                rest = length - size({**counts, group: 0})
                counts[group] = max(rest // each, 0)
                progress = True
    return counts


def _cost_of(narrower: Narrower, sizes: InputSizes, counts: Mapping[str, int]) -> Cost:
    with tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder:
        path = Path(folder) / "plan.onnx"
        write_model(narrower.model(counts), path)
        return cost(path, shapes=sizes.shapes)


def _macs_share(dense: Cost, plan: Cost) -> float | None:
    """Return the MACs of a plan as a share of the dense network's; None if unknown."""
    return None if dense.unknown or plan.unknown or not dense.macs else plan.macs / dense.macs
