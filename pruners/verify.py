"""Masked equals compact: the check without which no pruned network is handed out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from pruners.channels.labels import Value
from pruners.channels.program import named_tensors
from pruners.errors import FOREIGN, VacuousCheckError, VerificationError, first_line
from pruners.forms.graph_network import GraphNetwork
from pruners.forms.masked_run import masked_outputs
from pruners.forms.masking import graph_of, mask_
from pruners.forms.slicing import slice_without
from pruners.graph import Graph
from pruners.groups import ChannelGroup, removed_positions
from pruners.modules.calls import NetworkCall
from pruners.modules.copies import copy_of
from pruners.modules.outputs import LEAST_RANGE, Examples, Run, device_of, distance, in_dtype, outputs_of, span_of
from pruners.modules.perturb import randomize_for_sensitivity
from pruners.modules.precision import in_precision
from pruners.plan import PruningPlan

__all__ = ["Verification", "verify"]

_Positions: TypeAlias = Mapping[str, Mapping[int, Sequence[int]]]
_Reference: TypeAlias = Literal["masked parameters", "masked values"]

TOLERANCE = 1e-4
"""Largest error that is taken for rounding in fp32, relative to the range of the output."""
LEAST_SENSITIVITY = 10 * TOLERANCE
"""Smallest change of the output by masking, relative to its range, with which the comparison says something."""
_PROBES = 8
"""Draws of the probe's weights until the output moves: a few removed channels can all sleep behind a ReLU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the comparison of masked and compact network found.

    Parameters
    ----------
    reference : {"masked parameters", "masked values"}
        What the compact network was compared with: the original with zeros in its parameters, or (where a norm or a
        mean runs across removed channels, whole blocks go, or products of functions that are not zero at zero are
        summed) the original with every value masked and statistics taken over the survivors. See
        `pruners.forms.masked_run`.
    removed_channels : int
        Output channels (rows) removed from the layers that produce them, over all layers.
    removed_parameters : int
        Elements of parameters removed.
    max_abs_error : float
        Largest difference of masked and compact output, with the weights as given.
    relative_error : float
        Largest difference relative to the output's range, with both kinds of weights (see `verify`).
    sensitivity : float
        How far masking moves the output of the original relative to its range, with the weights as given.
    probe_sensitivity : float
        The same in the probe; what makes the check say something for a freshly initialised network.
    batch_sizes : tuple of int
        At which both were compared.
    tolerance : float
        `relative_error` is at most this.
    """

    reference: _Reference
    removed_channels: int
    removed_parameters: int
    max_abs_error: float
    relative_error: float
    sensitivity: float
    probe_sensitivity: float
    batch_sizes: tuple[int, ...]
    tolerance: float = TOLERANCE

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "batch_sizes": list(self.batch_sizes)}


def verify(
    model: nn.Module, plan: PruningPlan, compact: nn.Module, *, graph: Graph | None = None, seed: int = 0
) -> Verification:
    """Compare the masked original with the compact network in evaluation mode, on inputs like the graph's example.

    In fp32, and in double precision where that says no: where an output hardly varies, or a comparison in the network
    is close, rounding in fp32 looks like an error.

    Three things must hold. Every tensor of the compact network is the original's, cut by the plan, bit by bit. With the
    weights as given both networks give the same outputs, at two batch sizes. And with other weights they do too: this
    probe gives a copy of the original weights with which its output depends on every channel
    (`pruners.modules.perturb.randomize_for_sensitivity`) and the compact copy the same tensors, cut by the plan; it is
    what the check rests on for a freshly initialised network, whose outputs hardly depend on its inner layers. The
    check refuses to pass when masking moves the output in neither comparison.

    Parameters
    ----------
    model : Module
        The original; neither it nor `compact` is modified.
    compact : Module
        As `pruners.surgery.apply` made it, weights not trained since.
    graph : Graph, optional
        Of `model`; traced again from the plan's inputs when missing.
    seed : int, default=0
        Seeds inputs and redrawn tensors.

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
    graph = graph_of(model, plan) if graph is None else graph
    graph.check(plan)
    gone, dropped = removed_positions(graph.groups, plan), graph.dropped(plan)
    original, smaller = (in_precision(copy_of(one).eval(), torch.float32) for one in (model, compact))
    _check_cut(original, gone, dropped, smaller)
    cuts = _cuts_of_outputs(graph, plan)
    by_parameters = not plan.blocks and all(graph.group(name).exact for name in plan.kept)

    def compared(reference: _Reference, examples: Examples, floor: float) -> tuple[Verification, bool]:
        in_graph = isinstance(compact, GraphNetwork) or reference == "masked values"
        masked = _masked_parameters(gone) if reference == "masked parameters" else _masked_values(graph, plan)
        runs = examples.runs(original, seed=seed, any_batch=graph.dynamic_batch or not in_graph)
        given = [_compare(run, masked(original, run.inputs), smaller, floor, cuts) for run in runs]
        awake, smaller_awake = copy_of(original), copy_of(smaller)
        for attempt in range(_PROBES):
            randomize_for_sensitivity(awake, runs[-1].inputs, seed=seed + attempt)
            _copy_cut(awake, gone, smaller_awake)
            run = examples.run(awake, batch=runs[-1].batch, seed=seed + 1 + attempt)
            probe = _compare(run, masked(awake, run.inputs), smaller_awake, floor, cuts)
            if probe.sensitivity >= LEAST_SENSITIVITY or probe.relative_error > TOLERANCE:
                break
        found = Verification(
            reference=reference,
            removed_channels=_removed_channels(graph.groups, plan),
            removed_parameters=_n_elements(model) - _n_elements(compact),
            max_abs_error=max(one.error for one in given),
            relative_error=max(one.relative_error for one in (*given, probe)),
            sensitivity=max(one.sensitivity for one in given),
            probe_sensitivity=probe.sensitivity,
            batch_sizes=tuple(_batch_of(run) for run in runs),
        )
        return found, any(one.coarse for one in (*given, probe))

    # Zeros in the parameters are not zeros in the values where a function of zero is multiplied by another one.
    references: tuple[_Reference, ...] = ("masked parameters", "masked values") if by_parameters else ("masked values",)

    def decided(dtype: torch.dtype) -> tuple[Verification, bool]:
        in_precision(original, dtype), in_precision(smaller, dtype)
        examples = Examples(in_dtype(graph.example.to(device_of(model)), dtype))
        for reference in references:
            found, coarse = compared(reference, examples, LEAST_RANGE[dtype])
            if found.relative_error <= TOLERANCE:
                break
        return found, coarse

    result: Verification | None = None
    unclear, says = True, ""
    try:
        result, coarse = decided(torch.float32)
        unclear = coarse or _problem(result) is not None
    except FOREIGN as error:  # code that names a precision runs in no other
        says = first_line(error)
    if unclear:
        with suppress(*FOREIGN):
            result, _ = decided(torch.float64)
    if result is None:
        raise VerificationError(f"{type(model).__name__} does not run in fp32 on its example: {says}")
    if problem := _problem(result):
        raise problem
    return result


def _batch_of(run: Run) -> int:
    return next((len(tensor) for tensor in run.inputs.tensors if tensor.ndim), 1)


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


_Masked: TypeAlias = Callable[[nn.Module, NetworkCall], list[Tensor]]
_Cut: TypeAlias = Callable[[Tensor], Tensor]


def _cuts_of_outputs(graph: Graph, plan: PruningPlan) -> list[_Cut | None]:
    """Return for each tensor that the network returns how it shrinks, None where its channels stay."""
    survivors, returned = graph.survivors(plan), graph.grouping.walk.outputs
    return [None if stays else partial(survivors.cut, item) for item, stays in returned if isinstance(item, Value)]


def _masked_parameters(gone: _Positions) -> _Masked:
    def outputs(original: nn.Module, inputs: NetworkCall) -> list[Tensor]:
        twin = copy_of(original)
        mask_(twin, gone)
        return outputs_of(twin, inputs)

    return outputs


def _masked_values(graph: Graph, plan: PruningPlan) -> _Masked:
    survivors = graph.survivors(plan)
    left_out = {block.addition: block.stays for block in graph.removed_blocks(plan)}

    def outputs(original: nn.Module, inputs: NetworkCall) -> list[Tensor]:
        tensors = named_tensors(original)
        return masked_outputs(graph.program, graph.grouping.walk, survivors, tensors, inputs, left_out=left_out)

    return outputs


@dataclass(frozen=True, slots=True)
class _Difference:
    error: float
    relative_error: float
    sensitivity: float
    coarse: bool


def _compare(
    plain: Run, expected: Sequence[Tensor], compact: nn.Module, floor: float, cuts: Sequence[_Cut | None]
) -> _Difference:
    expected = [want if cut is None else cut(want) for want, cut in zip(expected, cuts, strict=True)]
    try:
        got = outputs_of(compact, plain.inputs)
    except FOREIGN as error:
        raise VerificationError(f"the compact network does not run: {first_line(error)}") from error
    if [item.shape for item in got] != [item.shape for item in expected]:
        raise VerificationError(
            f"the compact network's outputs are {[tuple(item.shape) for item in got]}, "
            f"the original's {[tuple(item.shape) for item in expected]}"
        )
    apart = relative = sensitivity = 0.0
    coarse = False
    for before, want, have, cut in zip(plain.outputs, expected, got, cuts, strict=True):
        span = span_of(before, floor)
        coarse |= span_of(before) < span
        before = before if cut is None else cut(before)
        worst = distance(want, have) if torch.equal(before.isfinite(), want.isfinite()) else math.inf
        apart, relative = max(apart, worst), max(relative, worst / span)
        if cut is None:  # that what may shrink is moved by masking says nothing
            sensitivity = max(sensitivity, distance(before, want) / span)
    return _Difference(apart, relative, sensitivity, coarse)


def _check_cut(original: nn.Module, gone: _Positions, dropped: frozenset[str], compact: nn.Module) -> None:
    target = named_tensors(compact)
    for name, cut in _cut_tensors(original, gone):
        if name in dropped and name not in target:
            continue
        if name not in target or target[name].shape != cut.shape:
            raise VerificationError(f"{name!r} of the compact network has not the shape that the plan says")
        if not torch.equal(target[name], cut):
            raise VerificationError(f"{name!r} of the compact network is not the original's, cut by the plan")


def _copy_cut(original: nn.Module, gone: _Positions, compact: nn.Module) -> None:
    target = named_tensors(compact)
    with torch.no_grad():
        for name, cut in _cut_tensors(original, gone):
            if name in target:
                target[name].copy_(cut)


def _cut_tensors(original: nn.Module, gone: _Positions) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, tensor in named_tensors(original).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, slice_without(tensor, gone.get(name, {}))


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
