"""Shared loop that prunes layer by layer, in network order: choose units, adjust the next layer, cut, train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pruners.base import Method, Outcome, key_of
from pruners.decide.goal import goal_of, require_one_removal
from pruners.decide.uniform import uniform_counts
from pruners.groups import removed_positions
from pruners.task import Removals, Stream

if TYPE_CHECKING:
    from torch import nn

    from pruners.graph import Graph
    from pruners.groups import ChannelGroup
    from pruners.plan import PruningPlan
    from pruners.reconstruct.readers import Reader
    from pruners.task import PruningTask

__all__ = ["Chosen", "Layer", "prune_layer_by_layer"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """Input of the choice of a layer's units.

    Parameters
    ----------
    model : Module
        The current network, a copy: the weights of the layers that read the units may be changed.
    present, dense : Graph
        Traces of the current network, and of the task's network.
    gone : PruningPlan or None
        What the current network has lost so far.
    masked : PruningPlan or None
        What else is masked in it (relative to the trace `present`), to be cut out later.
    group : ChannelGroup
        The layer's units, in the current network.
    readers : tuple of Reader
        Layers that read them.
    n_kept : int
        How many stay.
    """

    model: nn.Module
    present: Graph
    dense: Graph
    gone: PruningPlan | None
    masked: PruningPlan | None
    group: ChannelGroup
    readers: tuple[Reader, ...]
    n_kept: int


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Kept units, ascending, and the history entries of the choice (JSON values)."""

    kept: tuple[int, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def prune_layer_by_layer(
    method: Method,
    task: PruningTask,
    graph: Graph,
    choose: Callable[[Layer], Chosen],
    train_after: Callable[[nn.Module, int], Mapping[str, Any]] | None = None,
    *,
    batches: Stream,
) -> Outcome:
    """Choose and cut the units of one layer after the other.

    Without training in between, removed units are first masked and only cut out at the end: the same network, with one
    trace instead of many. Units whose removal differs from masking are cut out at once.

    How many units each group keeps is decided beforehand: by the ratios, or the same fraction of each. The history has
    a row for each layer: ``layer``, ``units_removed``, ``units_kept``, ``macs``, ``parameters`` (both after it), and
    facts on the choice and the training. Under ``torch.distributed`` every process follows the plans of process 0.
    With training in between and ``task.keeper``, it resumes after the last saved layer.

    Parameters
    ----------
    method, task, graph
        As in `Method._decide`.
    choose : callable
        ``choose(layer)``: the units that stay; see `Layer` and `Chosen`.
    train_after : callable, optional
        ``train_after(model, number)`` trains in place after each layer (numbered from 1) but the last, and returns
        history entries.
    batches : Stream
        What `choose` draws from.

    Raises
    ------
    MethodError
        The channels of a group are read by anything but plain layers.
    SelectorError, TargetError, NothingToPruneError
        The target or the constraints name unknown layers, cannot be met, or leave nothing to remove.
    """
    from pruners.forms.masking import mask_
    from pruners.methods.loops.cutting import agreed_plan, cut_plan, retrace
    from pruners.reconstruct.readers import readers_of

    counts = _counts(task, graph)
    for name in counts:
        readers_of(graph, graph.group(name))
    keeper = None if train_after is None else task.keeper
    key = "" if keeper is None else key_of(method, task)
    kept = None if keeper is None else keeper.last(key, task)
    gone: PruningPlan | None = None
    masked: PruningPlan | None = None
    history: list[Mapping[str, Any]] = []
    model = task.copy()
    if kept is not None:
        model, gone, history = kept.model, kept.plan, list(kept.history)
        batches.skip_to(kept.drawn)
    present = retrace(task, graph, model, gone)
    for number, (name, n_kept) in enumerate(counts.items(), start=1):
        if number <= len(history):
            continue
        group = present.group(name)
        layer = Layer(
            model=model,
            present=present,
            dense=graph,
            gone=gone,
            masked=masked,
            group=group,
            readers=readers_of(present, group),
            n_kept=n_kept,
        )
        chosen = choose(layer)
        removal = agreed_plan(method, present, {name: chosen.kept})
        mask_(model, removed_positions(present.groups, removal))
        masked = removal if masked is None else masked.then(removal)
        last = number == len(counts)
        trained: Mapping[str, Any] = {}
        if last or train_after is not None or not group.exact:
            model = cut_plan(task, present, model, masked)
            gone, masked = masked if gone is None else gone.then(masked), None
            if train_after is not None and not last:
                trained = train_after(model, number)
            if not last:
                present = retrace(task, graph, model, gone)
        left = dict(list(counts.items())[:number])
        history.append(
            {
                "layer": name,
                "units_removed": group.n_units - n_kept,
                "units_kept": n_kept,
                "macs": graph.macs(left),
                "parameters": graph.parameters(left),
                **chosen.facts,
                **trained,
            }
        )
        if keeper is not None and gone is not None and not last:
            keeper.keep(
                key,
                Removals(place=number, plan=gone, model=model, history=tuple(history), drawn=batches.drawn),
            )
        if task.progress is not None:
            task.progress(f"layer {name}: {n_kept} of {group.n_units} units left", number / len(counts))
    assert gone is not None, "a target takes at least one removal"
    return Outcome(plan=gone, model=model, history=tuple(history))


def _counts(task: PruningTask, graph: Graph) -> dict[str, int]:
    """Return the kept count of each group that loses units, in the order of the network."""
    choices, budget = goal_of(task.target, task.constraints, graph)
    counts = choices.floor if task.target.of == "ratios" else uniform_counts(choices, budget)
    whole = choices.whole
    for name, count in counts.items():
        require_one_removal(task.constraints, choices, {name: count})
    return {name: count for name, count in counts.items() if count < whole[name]}
