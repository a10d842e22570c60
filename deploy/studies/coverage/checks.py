"""Checks that every pruned network has to pass: it runs, it is smaller, and three runtimes agree on it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from backends.base import Array
from deploy.errors import DeployError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.capture import batched_inputs
from deploy.exporting.export import export_onnx
from deploy.studies.coverage.clock import Clock

__all__ = [
    "UntrainedError",
    "WrongAnswerError",
    "compare_detectors",
    "compare_outputs",
    "cost",
    "export",
    "require",
    "runtime_error",
    "training_step",
]

_TOLERANCE = 1e-4
_IMAGE = (3, 120, 140)


class WrongAnswerError(Exception):
    """Two outputs that must agree do not."""


class UntrainedError(DeployError):
    """A training step had no valid effect."""


def cost(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, int]:
    """Count the multiply-accumulates of one call with torch's own counter, and the elements of the parameters.

    Attention is first decomposed into its matrix products, since the counter misses fused kernels.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(display=False)
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for parameter in trained:  # the counter tracks gradients through modules and fails on an expanded parameter
            parameter.requires_grad_(False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            network(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters())


def export(network: nn.Module, inputs: tuple[Tensor, ...], path: Path, *, free_batch: bool) -> Path:
    """Write an ONNX file that takes any batch, or that of the inputs.

    Raises
    ------
    ExportError
        The exporter refuses.
    """
    export_onnx(network, inputs, path, dynamic_batch=free_batch)
    return path


def runtime_error(runtime: str, path: Path, network: nn.Module, inputs: tuple[Tensor, ...], clock: Clock) -> float:
    """Compare a runtime in fp32 with torch: the largest error as a share of the output's range.

    A file with a free batch is run at the batch of the inputs and at another one.

    Raises
    ------
    BackendError
        The runtime cannot compile or run the file.
    ExportError
        Outputs have other shapes, or torch's own outputs are not finite.
    """
    with clock.measure(runtime):
        agreement = compare_with_torch(path, network, inputs, backend=runtime)
    return agreement.max_abs_error / agreement.output_range


def require(runtime: str, error: float, tolerance: float) -> None:
    """Refuse outputs of a runtime that differ from torch's by more than rounding.

    Raises
    ------
    WrongAnswerError
        `error` is above `tolerance`, or NaN.
    """
    if not error <= tolerance:
        raise WrongAnswerError(f"{runtime} differs from torch by {error:.1e} of the output's range")


def compare_outputs(wanted: Sequence[Tensor], got: Sequence[Array]) -> float:
    """Compare the outputs of a network with those of its copy: the largest difference as a share of their range.

    Raises
    ------
    WrongAnswerError
        Their number or shapes differ, or they differ by more than rounding.
    """
    shapes = [tuple(item.shape) for item in wanted], [tuple(item.shape) for item in got]
    if shapes[0] != shapes[1]:
        raise WrongAnswerError(f"the reloaded network's outputs are {shapes[1]}, before it was saved {shapes[0]}")
    worst = 0.0
    for want, have in zip(wanted, got, strict=True):
        if want.numel():
            span = float(want.max() - want.min()) or float(want.abs().max()) or 1.0
            worst = max(worst, float((want - torch.from_numpy(have)).abs().max()) / span)
    if not worst <= _TOLERANCE:
        raise WrongAnswerError(f"the reloaded network differs by {worst:.1e} of the output's range")
    return worst


def training_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Train one step in training mode, on a batch of at least 2, and change the network.

    Returns
    -------
    float
        The loss: the mean square of all outputs.

    Raises
    ------
    UntrainedError
        Loss or gradients are not finite, or no weight changed.
    """
    free = batched_inputs(inputs)
    if free and inputs[free[0]].shape[0] == 1:  # BatchNorm needs at least two different examples to train
        inputs = tuple(torch.cat([x, x.flip(-1)]) if place in free else x for place, x in enumerate(inputs))
    network.train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    before = [float(parameter.detach().double().sum()) for parameter in trained]
    outputs = [item for item in pytree.tree_leaves(network(*inputs)) if isinstance(item, Tensor)]
    squares = [item.square().mean() for item in outputs if item.is_floating_point() and item.requires_grad]
    if not squares:
        raise UntrainedError("no output depends on a weight")
    loss = torch.stack(squares).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    value, norm = loss.item(), float(nn.utils.clip_grad_norm_(trained, 1.0))
    torch.optim.SGD(trained, lr=0.1).step()
    network.zero_grad()
    after = [float(parameter.detach().double().sum()) for parameter in trained]
    if not all(map(math.isfinite, (value, norm, *after))):
        raise UntrainedError(f"one training step gives a loss of {value}, gradients of norm {norm}")
    if before == after:
        raise UntrainedError("one training step changes no weight")
    return value


def compare_detectors(masked: Any, compact: Any, *, seed: int) -> int:
    """Run two whole detectors on the same images, in double precision, with their own code.

    Returns
    -------
    int
        Number of boxes that both returned.

    Raises
    ------
    WrongAnswerError
        They returned different boxes, or none at all.
    """
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(_IMAGE, generator=generator, dtype=torch.float64) for _ in range(2)]
    with torch.no_grad():
        wanted, got = (copy.deepcopy(detector).double().eval()(images) for detector in (masked, compact))
    n = 0
    for want, have in zip(wanted, got, strict=True):
        n += len(want["boxes"])
        for key, value in want.items():
            if value.shape != have[key].shape:
                raise WrongAnswerError(
                    f"the whole detector gives {key} of shape {tuple(have[key].shape)}, masked {tuple(value.shape)}"
                )
            span = float(value.abs().max()) if value.numel() else 1.0
            apart = float((value - have[key]).abs().max()) / (span or 1.0) if value.numel() else 0.0
            if not apart <= _TOLERANCE or not math.isfinite(span):
                raise WrongAnswerError(f"the whole detector's {key} differ by {apart:.1e} of their size")
    if not n:
        raise WrongAnswerError("the whole detector detected no box: nothing was compared")
    return n
