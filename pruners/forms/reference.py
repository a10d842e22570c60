"""What a compact network has to compute: the masked original, run once for all that is compared with it.

With two kinds of weights: those that the network has, and those of an awake copy, whose output depends on every channel
(`pruners.modules.perturb`). The choice of the form and the check of the result share both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from pruners.channels.labels import Value
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
"""Smallest change of the output by masking, relative to its range, with which a comparison says something."""
_PROBES = 8
"""Draws of the awake weights until the output moves: a few removed channels can all sleep behind a ReLU."""


@dataclass(frozen=True, eq=False)
class MaskedRun:
    """A run of the original, what it gives masked, and how each output shrinks: None where its channels stay."""

    plain: Run
    masked: Sequence[Tensor]
    cuts: Sequence[Callable[[Tensor], Tensor] | None]

    def sensitivity(self, floor: float) -> float:
        """Return how far masking moves the output, relative to its range of at least `floor` of its size.

        That what may shrink is moved says nothing.
        """
        runs = zip(self.plain.outputs, self.masked, self.cuts, strict=True)
        return max((distance(one, other) / span_of(one, floor) for one, other, cut in runs if cut is None), default=0.0)


@dataclass(frozen=True, eq=False)
class Awake:
    """Awake weights, cut by the plan, by name; and the inputs of a call at each batch size that the original takes."""

    tensors: Mapping[str, Tensor]
    runs: Sequence[Run]


@dataclass(frozen=True, eq=False)
class Cases:
    """What the compact network is compared with.

    Parameters
    ----------
    given : sequence of MaskedRun
        With the weights as given, at each batch size.
    awake : MaskedRun
        With awake weights, at the last of these.
    tensors : Mapping of str to Tensor
        The awake weights, cut by the plan: what the compact network has to have for `awake`.
    counts : bool
        Whether the multiply-accumulates of that run are those of the graph.
    """

    given: Sequence[MaskedRun]
    awake: MaskedRun
    tensors: Mapping[str, Tensor]
    counts: bool


class Reference:
    """Runs of the original, made when they are asked for and kept.

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
        Whether what is masked is asked for as well as what is awake: one run gives both.

    Attributes
    ----------
    gone : Mapping of str to Mapping of int to sequence of int
        Removed positions by tensor and axis.
    kinds : tuple of str
        How the original may be masked, the plainest first. Zeros in the parameters are not zeros in the values where a
        function of zero is multiplied by another one.
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
            In which the original runs.
        any_batch : bool
            Run at batch sizes 1 and 2 where the original does, else (or False) at the traced one.
        """
        key = any_batch, dtype
        if key not in self._awake and self._checked:
            self.cases(self.kinds[0], dtype, any_batch=any_batch)
        if key not in self._awake:
            network, examples = self._network(dtype), self._examples(dtype)
            runs = examples.runs(network, seed=self._seed, any_batch=any_batch)
            randomize_for_sensitivity(network, runs[-1].inputs, seed=self._seed)
            self._awake[key] = Awake(dict(cut_by_name(network, self.gone)), runs)
        return self._awake[key]

    def cases(self, kind: Kind, dtype: torch.dtype, *, any_batch: bool) -> Cases:
        """Return what the compact network is compared with; see `awake` for the arguments."""
        key = kind, any_batch, dtype
        if key not in self._cases:
            self._cases[key] = self._made(kind, dtype, any_batch)
            self._awake[any_batch, dtype] = Awake(
                self._cases[key].tensors, [one.plain for one in self._cases[key].given]
            )
        return self._cases[key]

    def _network(self, dtype: torch.dtype) -> nn.Module:
        return in_precision(copy_of(self._model).eval(), dtype)

    def _examples(self, dtype: torch.dtype) -> Examples:
        return Examples(in_dtype(self._graph.example.to(device_of(self._model)), dtype))

    def _made(self, kind: Kind, dtype: torch.dtype, any_batch: bool) -> Cases:
        network, examples = self._network(dtype), self._examples(dtype)
        runs = examples.runs(network, seed=self._seed, any_batch=any_batch)
        given = [self._masked(kind, network, run) for run in runs]
        for attempt in range(_PROBES):
            if attempt or kind == "masked parameters":
                del network  # one copy at a time; this one is masked, or its weights did not tell
                network = self._network(dtype)
            seed = self._seed + attempt
            inputs = runs[-1].inputs
            if attempt >= _PROBES // 2:  # what is drawn may lie where the network is dead, the example does not
                inputs = examples.as_given(runs[-1].batch)
            plain = Run(runs[-1].batch, inputs, randomize_for_sensitivity(network, inputs, seed=seed))
            if not plain.finite:
                plain = examples.run(network, batch=runs[-1].batch, seed=seed + 1)
            tensors = dict(cut_by_name(network, self.gone))
            counter = MacCounter()
            with counter:
                awake = self._masked(kind, network, plain)
            if awake.sensitivity(LEAST_RANGE[dtype]) >= LEAST_SENSITIVITY:
                break
        return Cases(given, awake, tensors, counter.macs // plain.size == self._graph.macs())

    def _masked(self, kind: Kind, network: nn.Module, run: Run) -> MaskedRun:
        """Run a network masked; by parameters it stays so."""
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
