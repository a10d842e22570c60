"""Prune a network with this project's engine, timing each step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from deploy.studies.coverage.checks import WrongAnswerError, compare_detectors, compare_outputs
from deploy.studies.coverage.clock import Clock
from deploy.studies.coverage.reload import reloaded_outputs
from deploy.studies.coverage.rows import CoverageSettings, ListedNetwork
from pruners.decide.choices import choices_of
from pruners.decide.counts import ratio_counts
from pruners.decide.units import top_units
from pruners.errors import NothingToPruneError, SurgeryError, VacuousCheckError, VerificationError
from pruners.forms.compact import save_weights
from pruners.forms.masking import mask
from pruners.forms.own_class import groups_in_the_way
from pruners.graph import Graph, trace
from pruners.importance.criteria import create_criterion
from pruners.importance.measures.l1 import l1_norms
from pruners.modules.calls import NetworkCall
from pruners.modules.outputs import outputs_of
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.target import Constraints
from pruners.verify import verify

__all__ = ["commonest_reason", "plan_l1", "prune"]

_LISTED = 6


def prune(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    entry: ListedNetwork,
    settings: CoverageSettings,
    facts: dict[str, Any],
    clock: Clock,
) -> nn.Module:
    """Prune by L1 norm, prove the result, and add each fact to `facts` as it becomes known.

    Raises
    ------
    PruneError
        The engine refuses.
    WrongAnswerError
        Masked and compact network differ.
    """
    with clock.measure("trace"), _export_time() as seconds:
        graph = trace(network, inputs)
    clock.seconds["export"] = round(seconds[0], 3)
    clock.seconds["analysis"] = round(clock.seconds.pop("trace") - seconds[0], 3)
    facts.update(
        groups=len(graph.groups),
        units=sum(group.n_units for group in graph.groups),
        fixed=commonest_reason(graph),
        unknown=tuple(f"{node}: {why}" for node, why in list(graph.unknown.items())[:_LISTED]),
    )
    with clock.measure("plan"):
        plan, left_whole = plan_l1(network, graph, settings)
    facts["left_whole"] = left_whole
    facts.update(pruned_groups=len(plan.kept), removed_units=plan.removed_units, inexact=_inexact(graph, plan))
    with clock.measure("apply"):
        compact = apply(network, plan, graph=graph, check=False)
    facts["form"] = "module" if type(compact) is type(network) else "graph"
    facts["form_reason"] = str(getattr(compact, "reason", ""))
    with clock.measure("verify"):
        try:
            proof = verify(network, plan, compact, graph=graph, seed=settings.seed)
        except VacuousCheckError:
            raise
        except VerificationError as error:
            raise WrongAnswerError(str(error)) from error
    facts.update(
        removed_channels=proof.removed_channels,
        equality_error=proof.relative_error,
        sensitivity=max(proof.sensitivity, proof.probe_sensitivity),
    )
    with clock.measure("reload"), TemporaryDirectory() as folder:
        plan_file, weights = Path(folder, "plan.json"), Path(folder, "weights.safetensors")
        plan.save(plan_file)
        save_weights(compact, weights)
        got = reloaded_outputs(entry, settings, plan_file, weights)
        facts["reload_error"] = compare_outputs(outputs_of(compact, NetworkCall(inputs)), got)
    if entry.wrapper == "detector":
        _check_detector(network, plan, graph, compact, settings, facts, clock)
    return compact


def plan_l1(network: nn.Module, graph: Graph, settings: CoverageSettings) -> tuple[PruningPlan, tuple[str, ...]]:
    """Remove the units of smallest L1 norm, the same share from every group that has filters to rank.

    As in `pruners.base.Method.prune`, groups that prevent the network from keeping its own class are left whole if
    enough is saved without them.

    Returns
    -------
    tuple of (PruningPlan, tuple of str)
        The plan, and the groups that it leaves whole for the network's own class.

    Raises
    ------
    NothingToPruneError
        Every group is fixed; the message gives the most common reason.
    """
    free = [group for group in graph.groups if group.prunable]
    if not free:
        raise NothingToPruneError(f"all {len(graph.groups)} groups are fixed: {commonest_reason(graph)}")
    unrankable = create_criterion("l1").unrankable(network, graph)
    rankable = [group for group in free if group.name not in unrankable]
    in_the_way = groups_in_the_way(network, graph, choices_of(rankable, Constraints())) or {}
    for left_whole in dict.fromkeys((tuple(in_the_way), ())):
        choices = choices_of(rankable, Constraints(whole=left_whole))
        counts = ratio_counts(choices, rankable, {"*": settings.ratio})
        if graph.macs(counts) <= (1 - settings.least_saved) * graph.macs():
            break
    scores = l1_norms(graph.weights(), [graph.group(name) for name in counts])
    plan = PruningPlan.from_kept(
        top_units(scores, counts),
        {name: graph.group(name).n_units for name in counts},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        call=graph.call,
        method="l1",
        settings={"ratio": settings.ratio},
        policy=graph.policy,
    )
    return plan, left_whole


def commonest_reason(graph: Graph) -> str:
    """Return the most common reason why units are fixed; empty if all groups are free."""
    weight: dict[str, int] = {}
    for group in graph.groups:
        if group.fixed:
            weight[group.fixed] = weight.get(group.fixed, 0) + group.n_units
    return max(weight, key=lambda reason: weight[reason]) if weight else ""


def _inexact(graph: Graph, plan: PruningPlan) -> str:
    names = [name for name in plan.kept if not graph.group(name).exact]
    if not names:
        return ""
    return f"a norm across the channels of {len(names)} of {len(plan.kept)} pruned groups, e.g. {names[0]!r}"


@contextmanager
def _export_time() -> Iterator[list[float]]:
    """Measure the seconds spent inside torch.export."""
    seconds, export = [0.0], torch.export.export

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return export(*args, **kwargs)
        finally:
            seconds[0] += time.perf_counter() - start

    with mock.patch.object(torch.export, "export", timed):
        yield seconds


def _check_detector(
    network: nn.Module,
    plan: PruningPlan,
    graph: Graph,
    compact: nn.Module,
    settings: CoverageSettings,
    facts: dict[str, Any],
    clock: Clock,
) -> None:
    if facts["form"] != "module":
        raise SurgeryError(f"the core came back as a graph, in which the detector cannot run: {facts['form_reason']}")
    with clock.measure("detector"):
        masked = mask(network, plan, graph=graph)
        facts["detections"] = compare_detectors(
            masked.get_submodule("detector"), compact.get_submodule("detector"), seed=settings.seed
        )
