"""What every pruned network has to pass, whoever pruned it: it runs, it is smaller, and three runtimes agree on it."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deploy.export.agreement import compare_with_torch
from deploy.export.export import export_onnx
from deploy.studies.coverage.clock import Clock

__all__ = ["WrongAnswerError", "compare_detectors", "cost", "export", "runtime_error"]

_TOLERANCE = 1e-4
_IMAGE = (3, 120, 140)


class WrongAnswerError(Exception):
    """Two answers that must agree do not."""


def cost(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, int]:
    """Count multiply-accumulates of one call, as torch's own counter does, and elements of the parameters.

    Attention is taken apart into its matrix products first: its fused kernels are not counted otherwise.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(display=False)
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for parameter in trained:  # the counter follows gradients through modules, and fails on an expanded parameter
            parameter.requires_grad_(False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            network(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters())


def export(network: nn.Module, inputs: tuple[Tensor, ...], folder: Path, clock: Clock, phase: str = "onnx") -> Path:
    """Write ``model.onnx`` with the batch of the inputs.

    Raises
    ------
    ExportError
        The exporter refuses.
    """
    path = folder / f"{phase}.onnx"
    with clock.measure(phase):
        export_onnx(network, inputs, path, dynamic_batch=False)
    return path


def runtime_error(runtime: str, path: Path, network: nn.Module, inputs: tuple[Tensor, ...], clock: Clock) -> float:
    """Compare a runtime in fp32 with torch: the largest error as a share of the output's range.

    Raises
    ------
    BackendError
        It cannot compile or run the file.
    ExportError
        Outputs have other shapes, or torch's own answers are not finite.
    """
    with clock.measure(runtime):
        agreement = compare_with_torch(path, network, inputs, backend=runtime)
    return agreement.max_abs_error / agreement.output_range


def compare_detectors(masked: Any, compact: Any, *, seed: int) -> int:
    """Run two whole detectors on the same images, in double precision, with their own code.

    Returns
    -------
    int
        Boxes that both gave.

    Raises
    ------
    WrongAnswerError
        They gave other boxes, or none at all.
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
