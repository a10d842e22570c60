"""Masked equals compact: the check that a pruned network must pass before it is returned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruners.channels.program import named_tensors
from pruners.errors import FOREIGN, VacuousCheckError, VerificationError, first_line
from pruners.forms.graph_network import GraphNetwork
from pruners.forms.masking import graph_of
from pruners.forms.reference import LEAST_SENSITIVITY, Kind, MaskedRun, Reference, cut_by_name
from pruners.graph import Graph
from pruners.groups import ChannelGroup
from pruners.modules.copies import copy_of
from pruners.modules.multiplications import MacCounter
from pruners.modules.outputs import LEAST_RANGE, distance, outputs_of, span_of
from pruners.modules.plain import plain
from pruners.modules.precision import in_precision
from pruners.plan import PruningPlan

__all__ = ["Reference", "Verification", "verify"]

TOLERANCE = 1e-4
"""Largest error attributed to fp32 rounding, relative to the output's range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Result of comparing the masked with the compact network.

    Parameters
    ----------
    reference : {"masked parameters", "masked values"}
        What the compact network was compared with: the original with zeros in its parameters, or (if a norm or a mean
        runs across removed channels, whole blocks are removed, or products of functions that are not zero at zero are
        summed) the original with every value masked and statistics taken over the survivors. See
        `pruners.forms.masked_run`.
    removed_channels : int
        Output channels (rows) removed from the layers that produce them, over all layers.
    removed_parameters : int
        Parameter elements removed.
    max_abs_error : float
        Largest difference between masked and compact output, with the weights as given.
    relative_error : float
        Largest difference relative to the output's range, with both kinds of weights (see `verify`).
    sensitivity : float
        How far masking moves the original's output, relative to its range, with the weights as given.
    probe_sensitivity : float
        The same in the probe; makes the check meaningful for a freshly initialised network.
    batch_sizes : tuple of int
        Batch sizes at which both were compared.
    tolerance : float
        Upper bound on `relative_error`.
    macs : int, optional
        Multiply-accumulates of the compact network for one example, counted while it ran. None if an operator hides
        some: the same count of the original then differs from its graph's. Not in the JSON form.
    """

    reference: Kind
    removed_channels: int
    removed_parameters: int
    max_abs_error: float
    relative_error: float
    sensitivity: float
    probe_sensitivity: float
    batch_sizes: tuple[int, ...]
    tolerance: float = TOLERANCE
    macs: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = asdict(self)
        del fields["macs"]
        return {**fields, "batch_sizes": list(self.batch_sizes)}


def verify(
    model: nn.Module,
    plan: PruningPlan,
    compact: nn.Module,
    *,
    graph: Graph | None = None,
    seed: int = 0,
    reference: Reference | None = None,
) -> Verification:
    """Compare the masked original with the compact network in evaluation mode, on inputs like the graph's example.

    Runs in fp32, and again in double precision if that is not conclusive: if an output hardly varies, or a comparison
    in the network is close, fp32 rounding looks like an error.

    Three things must hold. Every tensor of the compact network equals the original's, cut by the plan, bit for bit.
    With the weights as given, both networks give the same outputs. And they do so with other weights at another batch
    size: this probe gives a copy of the original weights with which its output depends on every channel
    (`pruners.modules.perturb.randomize_for_sensitivity`), and the compact copy the same tensors, cut by the plan. The
    check of a freshly initialised network, whose outputs hardly depend on its inner layers, rests on the probe. The
    check does not pass if masking moves the output in neither comparison.

    Parameters
    ----------
    model : Module
        The original; neither it nor `compact` is modified.
    compact : Module
        As returned by `pruners.surgery.apply`, not trained since.
    graph : Graph, optional
        Graph of `model`; traced again from the plan's inputs if not given.
    seed : int, default=0
        Seeds inputs and redrawn tensors.
    reference : Reference, optional
        Runs of the original, if already made for this plan; its own seed then replaces `seed`.

    Raises
    ------
    PlanError
        The plan was made for another network.
    VerificationError
        The outputs differ, the compact network does not run, or the plan removes nothing.
    VacuousCheckError
        The output does not depend on what was removed.
    """
    if not plan.removes:
        raise VerificationError("the plan removes nothing: there is nothing to verify")
    model, compact = plain(model), plain(compact)
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    reference = Reference(model, plan, graph, seed=seed) if reference is None else reference
    _check_cut(model, reference.gone, graph.dropped(plan), compact)

    def compared(kind: Kind, dtype: torch.dtype) -> tuple[Verification, bool]:
        in_graph = isinstance(compact, GraphNetwork) or kind == "masked values"
        cases = reference.cases(kind, dtype, any_batch=graph.dynamic_batch or not in_graph)
        smaller, floor = in_precision(copy_of(compact).eval(), dtype), LEAST_RANGE[dtype]
        given = _compare(cases.given, smaller, floor)
        _load(smaller, cases.tensors)
        counter = MacCounter()
        with counter:
            awake = _compare(cases.awake, smaller, floor)
        found = Verification(
            reference=kind,
            removed_channels=_removed_channels(graph.groups, plan),
            removed_parameters=_n_elements(model) - _n_elements(compact),
            max_abs_error=given.error,
            relative_error=max(given.relative_error, awake.relative_error),
            sensitivity=cases.given.sensitivity(floor),
            probe_sensitivity=cases.awake.sensitivity(floor),
            batch_sizes=tuple(dict.fromkeys(run.plain.size for run in (cases.given, cases.awake))),
            macs=counter.macs // cases.awake.plain.size if cases.counts else None,
        )
        return found, given.coarse or awake.coarse

    def decided(dtype: torch.dtype) -> tuple[Verification, bool]:
        for kind in reference.kinds:
            found, coarse = compared(kind, dtype)
            if found.relative_error <= TOLERANCE:
                break
        return found, coarse

    result: Verification | None = None
    unclear, says = True, ""
    try:
        result, coarse = decided(torch.float32)
        unclear = coarse or _problem(result) is not None
    except FOREIGN as error:  # code with a hard-coded precision runs in no other
        says = first_line(error)
    if unclear:
        # A graph contains a hard-coded precision of its code, too: its result in that precision stands.
        with suppress(*FOREIGN, *(() if result is None else (_DoesNotRunError,))):
            result, _ = decided(torch.float64)
    if result is None:
        raise VerificationError(f"{type(model).__name__} does not run in fp32 on its example: {says}")
    if problem := _problem(result):
        raise problem
    return result


def _problem(result: Verification) -> VerificationError | None:
    if math.isinf(result.relative_error):
        return VerificationError("masked or compact network gives NaN or infinity where the original does not")
    if not result.relative_error <= TOLERANCE:
        return VerificationError(
            f"masked and compact network differ by {result.relative_error:.2e} of the output's range; "
            f"at most {TOLERANCE:.0e} is rounding"
        )
    moved = max(result.sensitivity, result.probe_sensitivity)
    if not moved >= LEAST_SENSITIVITY:
        return VacuousCheckError(
            f"the check is vacuous: masking the {result.removed_channels} removed channels moves the output by "
            f"{moved:.1e} of its range, less than {LEAST_SENSITIVITY:.0e}"
        )
    return None


class _DoesNotRunError(VerificationError):
    """The compact network fails where the original runs."""


@dataclass(frozen=True, slots=True)
class _Difference:
    error: float
    relative_error: float
    coarse: bool


def _compare(original: MaskedRun, compact: nn.Module, floor: float) -> _Difference:
    try:
        got = outputs_of(compact, original.plain.inputs)
    except FOREIGN as error:
        raise _DoesNotRunError(f"the compact network does not run: {first_line(error)}") from error
    expected = [want if cut is None else cut(want) for want, cut in zip(original.masked, original.cuts, strict=True)]
    if [item.shape for item in got] != [item.shape for item in expected]:
        raise VerificationError(
            f"the compact network's outputs are {[tuple(item.shape) for item in got]}, "
            f"the original's {[tuple(item.shape) for item in expected]}"
        )
    apart = relative = 0.0
    coarse = False
    for before, want, have, cut in zip(original.plain.outputs, expected, got, original.cuts, strict=True):
        span = span_of(before, floor)
        coarse |= span_of(before) < span
        before = before if cut is None else cut(before)
        worst = distance(want, have) if torch.equal(before.isfinite(), want.isfinite()) else math.inf
        apart, relative = max(apart, worst), max(relative, worst / span)
    return _Difference(apart, relative, coarse)


def _check_cut(
    original: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]], dropped: frozenset[str], compact: nn.Module
) -> None:
    target = named_tensors(compact)
    for name, cut in cut_by_name(original, gone):
        if name in dropped and name not in target:
            continue
        if name not in target or target[name].shape != cut.shape:
            raise VerificationError(f"{name!r} of the compact network has not the shape that the plan says")
        if not torch.equal(target[name], cut):
            raise VerificationError(f"{name!r} of the compact network is not the original's, cut by the plan")


def _load(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in named_tensors(network).items():
            replaced = not isinstance(tensor, nn.Parameter) and name in tensors and tensor.shape != tensors[name].shape
            if name in tensors and not replaced:  # a cache that the original replaced when it ran
                tensor.copy_(tensors[name])


def _removed_channels(groups: Sequence[ChannelGroup], plan: PruningPlan) -> int:
    return sum(
        len(member.indices[unit])
        for group in groups
        for unit in plan.removed(group.name)
        for member in group.members
        if member.produces
    )


def _n_elements(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
