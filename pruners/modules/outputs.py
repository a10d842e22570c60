"""Inputs on which to compare two forms of a network, and the outputs to compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruners.errors import FOREIGN
from pruners.modules.calls import NetworkCall, know_dataclasses
from pruners.modules.precision import comparable, precise
from pruners.modules.random_inputs import SOURCES, Source, random_call

__all__ = ["LEAST_RANGE", "Examples", "Run", "device_of", "distance", "in_dtype", "outputs_of", "run_alike", "span_of"]


_Last: TypeAlias = Callable[[nn.Module, NetworkCall], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a network: its batch size (None: the example's), its inputs, and its outputs from `outputs_of`."""

    batch: int | None
    inputs: NetworkCall
    outputs: Sequence[Tensor]

    @property
    def size(self) -> int:
        """Number of examples."""
        return next((len(tensor) for tensor in self.inputs.tensors if tensor.ndim), 1)

    @property
    def finite(self) -> bool:
        """Whether no output is infinite or NaN."""
        return all(bool(output.isfinite().all()) for output in self.outputs)


class Examples:
    """Inputs drawn from an example that a network runs on, with finite outputs if possible.

    For a network that accepts only some values, draws stay closer and closer to the example (see `random_call`), down
    to the example itself.

    Parameters
    ----------
    example : NetworkCall
        On the network's device.
    within : callable, optional
        Makes a context for a run, which may refuse inputs that the network would accept.
    """

    def __init__(
        self, example: NetworkCall, within: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.example, self._within = example, within

    def runs(
        self, make: Callable[[], nn.Module], *, seed: int, any_batch: bool, last: _Last | None = None
    ) -> tuple[nn.Module, Run, Run]:
        """Run a network at batch sizes 1 and 2 if allowed and possible, else twice at the example's.

        Parameters
        ----------
        make : callable
            Makes the network.
        last : callable, optional
            Runs it the second time, and may change it; default: `outputs_of`.

        Raises
        ------
        Exception
            The network does not run on the example.
        """
        sizes = [(1, 2)] if any_batch and self.example.batch is not None else []
        for one, two in (*sizes, (None, None)):
            for source in SOURCES:
                network = make()
                try:
                    runs = (
                        self._run(network, one, seed, source, outputs_of),
                        self._run(network, two, seed + 1, source, last or outputs_of),
                    )
                except FOREIGN:
                    if one is None and source == SOURCES[-1]:
                        raise
                else:
                    if source == SOURCES[-1] or all(run.finite for run in runs):
                        return network, *runs
        raise AssertionError("the example itself runs or raises")

    def as_given(self, batch: int | None) -> NetworkCall:
        """Return rows of the example itself, at a batch size."""
        return random_call(self.example, batch=batch, source=SOURCES[-1])

    def _run(self, network: nn.Module, batch: int | None, seed: int, source: Source, run: _Last) -> Run:
        inputs = random_call(self.example, batch=batch, seed=seed, source=source)
        with self._within():
            return Run(batch, inputs, run(network, inputs))


LEAST_RANGE = {torch.float32: 1e-2, torch.float64: 1e-6}
"""Range of an output below which a ten-thousandth of it is rounding, as a share of its size."""


def span_of(output: Tensor, floor: float = 0.0) -> float:
    """Return the range of the finite values of an output, at least `floor` of their size; 1 where all are zero."""
    finite = output[output.isfinite()]
    if not finite.numel():
        return 1.0
    span, size = float(finite.max() - finite.min()), float(finite.abs().max())
    return max(span or size, floor * size) or 1.0


def distance(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; infinite if one is infinite or NaN and the other is not the same."""
    if not one.numel():
        return 0.0
    same = (one == other) | (one.isnan() & other.isnan())
    apart = float((one - other).abs().masked_fill(same, 0).max())
    return math.inf if math.isnan(apart) else apart


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


def in_dtype(call: NetworkCall, dtype: torch.dtype) -> NetworkCall:
    """Return the inputs with floating-point ones in a dtype, complex ones in the corresponding complex dtype."""
    return call.map(lambda tensor: precise(tensor, dtype))


def outputs_of(module: nn.Module, inputs: NetworkCall) -> list[Tensor]:
    """Run a network like `run_alike`, and restore the buffers it writes."""
    layers = list(module.modules())
    before = [(one, name, b, b.clone()) for one in layers for name, b in one._buffers.items() if b is not None]
    outputs = run_alike(module, inputs)
    with torch.no_grad():
        for layer, name, buffer, value in before:
            layer._buffers[name] = buffer.copy_(value)  # a network may have replaced it
    return outputs


def run_alike(module: nn.Module, inputs: NetworkCall) -> list[Tensor]:
    """Run a network without gradients, deterministically and without TF32; return all its tensors.

    In float64, complex ones as pairs of real and imaginary parts.

    Random numbers that the network draws itself are the same in each call.

    Parameters
    ----------
    inputs : NetworkCall
        On the network's device.
    """
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.no_grad(), exact, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        outputs = inputs(module)
        know_dataclasses(outputs)
        leaves: list[Any] = pytree.tree_leaves(outputs)
        return [comparable(leaf.clone()) for leaf in leaves if isinstance(leaf, Tensor)]
