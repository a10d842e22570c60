"""What a compact network must compute: the masked original, run once for everything that is compared with it.

It runs with two sets of weights: the network's own, and those of an awake copy, whose output depends on every channel
(`pruners.modules.perturb`). The choice of the form and the check of the result share both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from pruners.channels.labels import Value
from pruners.channels.packed import FullSequences, holds_packed
from pruners.channels.program import named_tensors
from pruners.forms.masked_run import masked_outputs
from pruners.forms.masking import mask_
from pruners.forms.slicing import slice_without
from pruners.graph import Graph
from pruners.groups import removed_positions
from pruners.modules.copies import copy_of
from pruners.modules.multiplications import MacCounter
from pruners.modules.outputs import LEAST_RANGE, Examples, Run, device_of, distance, in_dtype, outputs_of, span_of
from pruners.modules.perturb import randomize_for_sensitivity
from pruners.modules.precision import in_precision
from pruners.plan import PruningPlan

__all__ = ["LEAST_SENSITIVITY", "Awake", "Cases", "Kind", "MaskedRun", "Reference", "cut_by_name"]

Kind: TypeAlias = Literal["masked parameters", "masked values"]
LEAST_SENSITIVITY = 1e-3
"""Smallest change of the output by masking, relative to its range, for a comparison to be meaningful."""
_PROBES = 8
"""Most draws of awake weights until the output moves: a few removed channels can all be dead behind a ReLU."""


@dataclass(frozen=True, eq=False)
class MaskedRun:
    """A run of the original, its outputs when masked, and how each output shrinks: None if its channels stay."""

    plain: Run
    masked: Sequence[Tensor]
    cuts: Sequence[Callable[[Tensor], Tensor] | None]

    def sensitivity(self, floor: float) -> float:
        """Return how far masking moves the output, relative to its range of at least `floor` of its size.

        Outputs that may shrink do not count.
        """
        runs = zip(self.plain.outputs, self.masked, self.cuts, strict=True)
        return max((distance(one, other) / span_of(one, floor) for one, other, cut in runs if cut is None), default=0.0)


@dataclass(frozen=True, eq=False)
class Awake:
    """Awake weights, cut by the plan, by name; and a run with the weights as given."""

    tensors: Mapping[str, Tensor]
    given: Run


@dataclass(frozen=True, eq=False)
class Cases:
    """What the compact network is compared with.

    Parameters
    ----------
    given : MaskedRun
        With the weights as given.
    awake : MaskedRun
        With awake weights, at another batch size where the original takes any.
    tensors : Mapping of str to Tensor
        The awake weights, cut by the plan: what the compact network needs for `awake`.
    counts : bool
        Whether the multiply-accumulates counted in that run are those of the graph.
    """

    given: MaskedRun
    awake: MaskedRun
    tensors: Mapping[str, Tensor]
    counts: bool


class Reference:
    """Runs of the original, made on first use and cached.

    Parameters
    ----------
    model : Module
        The original; not modified.
    plan : PruningPlan
        What is masked.
    graph : Graph
        Of `model`.
    seed : int, default=0
        Seeds inputs and redrawn tensors.
    checked : bool, default=True
        Whether masked runs will be needed as well as awake weights: one run gives both.

    Attributes
    ----------
    gone : Mapping of str to Mapping of int to sequence of int
        Removed positions by tensor and axis.
    kinds : tuple of str
        How the original may be masked, simplest first. Zeros in the parameters do not give zero values if a function of
        zero is multiplied by another one.
    """

    def __init__(
        self, model: nn.Module, plan: PruningPlan, graph: Graph, *, seed: int = 0, checked: bool = True
    ) -> None:
        by_parameters = not plan.blocks and all(graph.group(name).exact for name in plan.kept)
        self.kinds: tuple[Kind, ...] = ("masked parameters", "masked values") if by_parameters else ("masked values",)
        self.gone = removed_positions(graph.groups, plan)
        self._checked = checked
        self._model, self._plan, self._graph, self._seed = model, plan, graph, seed
        self._awake: dict[tuple[bool, torch.dtype], Awake] = {}
        self._cases: dict[tuple[Kind, bool, torch.dtype], Cases] = {}

    def awake(self, dtype: torch.dtype, *, any_batch: bool) -> Awake:
        """Return awake weights.

        Parameters
        ----------
        dtype : torch.dtype
            Precision in which the original runs.
        any_batch : bool
            Run at batch sizes 1 and 2 if the original does; otherwise, or if False, at the traced one.
        """
        key = any_batch, dtype
        if key not in self._awake and self._checked:
            self.cases(self.kinds[0], dtype, any_batch=any_batch)
        if key not in self._awake:
            network, given, _ = self._woken(dtype, any_batch)
            self._awake[key] = Awake(dict(cut_by_name(network, self.gone)), given)
        return self._awake[key]

    def cases(self, kind: Kind, dtype: torch.dtype, *, any_batch: bool) -> Cases:
        """Return what the compact network is compared with; see `awake` for the arguments."""
        key = kind, any_batch, dtype
        if key not in self._cases:
            self._cases[key] = cases = self._made(kind, dtype, any_batch)
            self._awake[any_batch, dtype] = Awake(cases.tensors, cases.given.plain)
        return self._cases[key]

    def _network(self, dtype: torch.dtype) -> nn.Module:
        return in_precision(copy_of(self._model).eval(), dtype)

    def _examples(self, dtype: torch.dtype) -> Examples:
        example = in_dtype(self._graph.example.to(device_of(self._model)), dtype)
        return Examples(example, FullSequences if holds_packed(self._graph.module) else nullcontext)

    def _woken(self, dtype: torch.dtype, any_batch: bool) -> tuple[nn.Module, Run, Run]:
        """Return an awake copy, and its runs before and after waking."""
        examples = self._examples(dtype)
        wake = partial(randomize_for_sensitivity, seed=self._seed)
        return examples.runs(partial(self._network, dtype), seed=self._seed, any_batch=any_batch, last=wake)

    def _made(self, kind: Kind, dtype: torch.dtype, any_batch: bool) -> Cases:
        network, before, plain = self._woken(dtype, any_batch)
        for attempt in range(1, _PROBES + 1):
            tensors = dict(cut_by_name(network, self.gone))
            counter = MacCounter()
            with counter:
                awake = self._masked(kind, network, plain)
            if awake.sensitivity(LEAST_RANGE[dtype]) >= LEAST_SENSITIVITY or attempt == _PROBES:
                break
            del network  # one copy at a time
            network = self._network(dtype)
            inputs = plain.inputs
            if attempt >= _PROBES // 2:  # drawn inputs may fall where the network is dead, the example does not
                inputs = self._examples(dtype).as_given(plain.batch)
            outputs = randomize_for_sensitivity(network, inputs, seed=self._seed + attempt)
            plain = Run(plain.batch, inputs, outputs)
        del network
        given = self._masked(kind, self._network(dtype), before)
        return Cases(given, awake, tensors, counter.macs // plain.size == self._graph.macs())

    def _masked(self, kind: Kind, network: nn.Module, run: Run) -> MaskedRun:
        """Run a network masked; masking by parameters modifies it."""
        graph, survivors = self._graph, self._graph.survivors(self._plan)
        if kind == "masked parameters":
            mask_(network, self.gone)
            outputs = outputs_of(network, run.inputs)
        else:
            left_out = {block.addition: block.stays for block in graph.removed_blocks(self._plan)}
            walk, tensors = graph.grouping.walk, named_tensors(network)
            outputs = masked_outputs(graph.program, walk, survivors, tensors, run.inputs, left_out=left_out)
        returned = [(item, stays) for item, stays in graph.grouping.walk.outputs if isinstance(item, Value)]
        return MaskedRun(run, outputs, [None if stays else partial(survivors.cut, item) for item, stays in returned])


def cut_by_name(model: nn.Module, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers without removed positions, shared ones once, under their first name."""
    seen: set[int] = set()
    for name, tensor in named_tensors(model).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, slice_without(tensor, gone.get(name, {}))
