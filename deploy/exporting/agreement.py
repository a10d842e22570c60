"""Check that an ONNX file gives the same answers as torch under a backend. Imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from backends.base import Array, CompileOptions
from benchmarks.records.measurement import Agreement
from deploy.errors import ExportError
from deploy.exporting.capture import batched_inputs, batches, copy_for_export, tensors_of
from deploy.exporting.inference import compiled_elsewhere
from pruners.modules.calls import NetworkCall

__all__ = ["TOLERANCE", "compare_with_torch", "torch_answers"]

TOLERANCE = 1e-3
"""Largest error that counts as the same answer, as a share of the output's range. In fp32, about 1e-6 is typical."""


def compare_with_torch(
    path: Path,
    model: nn.Module,
    inputs: Any,
    *,
    backend: str = "ort",
    options: CompileOptions | None = None,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Compare the answers of an ONNX file with those of the network it came from.

    With a free batch dimension, all examples are run as one batch and then one by one, which reveals a size that was
    baked in by mistake. With a fixed one, they are run in batches of that size, the last one filled up. The file is
    compiled in a separate process.

    Parameters
    ----------
    path : Path
        ONNX file.
    model : nn.Module
        Run as a copy in evaluation mode on the CPU; not changed.
    inputs : Tensor, tuple, list, Mapping, (tuple, Mapping) or NetworkCall
        Real examples as `deploy.exporting.export.export_onnx` takes them; axis 0 is the batch of each that has one.
    backend : str, default="ort"
        Name in `backends.registry`.
    options : CompileOptions, optional
        Defaults to fp32, one thread, CPU.
    tolerance : float, default=1e-3
        Largest error allowed, as a share of the output's range.

    Returns
    -------
    Agreement
        Of the output that agrees least. Its range is max - min over the reference, or the largest magnitude if the
        reference is constant. ``ok`` says whether it is within the tolerance; the caller decides what follows.

    Raises
    ------
    ExportError
        The file's inputs do not fit, its outputs have other shapes, or torch's own answers are not finite.
    BackendError
        The backend cannot compile or run the file.
    """
    network, examples = copy_for_export(model, inputs)
    batched = batched_inputs(examples.tensors)
    n = examples.tensors[batched[0]].shape[0] if batched else 1
    spread: dict[tuple[int, str], _Spread] = {}
    with compiled_elsewhere(path, backend, options) as remote:
        if len(remote.inputs) != len(examples.tensors):
            raise ExportError(f"{path} has {len(remote.inputs)} inputs, got {len(examples.tensors)}")
        fixed = remote.fixed_batch
        sizes = (n, 1 if n > 1 else 2) if batched and fixed is None else (fixed or n,)
        for size in sizes:
            for batch in batches(examples, size):
                feeds = {spec.name: value.numpy() for spec, value in zip(remote.inputs, batch.tensors, strict=True)}
                actual = remote.run(feeds)
                for name, wanted in _named(network, batch, tuple(actual)).items():
                    spread.setdefault((size, name), _Spread()).add(path, name, actual[name], wanted)
    worst = max(spread.values(), key=lambda each: each.error / each.span)
    return Agreement(
        reference="torch, eager, on the CPU",
        max_abs_error=worst.error,
        output_range=worst.span,
        tolerance=tolerance,
        n_inputs=n,
        ok=worst.error <= tolerance * worst.span,
    )


class _Spread:
    """Largest error of one output over the batches, and the range of its reference."""

    def __init__(self) -> None:
        self.error = 0.0
        self._low, self._high = np.inf, -np.inf

    def add(self, path: Path, name: str, actual: Array, reference: Array) -> None:
        if actual.shape != reference.shape:
            raise ExportError(f"{path}: output {name!r} has shape {actual.shape}, torch gives {reference.shape}")
        wanted = reference.astype(np.float64)
        error = float(np.abs(actual.astype(np.float64) - wanted).max(initial=0.0))
        self.error = max(self.error, error if np.isfinite(error) else np.inf)
        self._low = min(self._low, float(wanted.min(initial=np.inf)))
        self._high = max(self._high, float(wanted.max(initial=-np.inf)))

    @property
    def span(self) -> float:
        """Range of the reference; never zero: its largest magnitude if it is constant, 1 if it is zero everywhere."""
        if not np.isfinite(self._low):
            return 1.0  # outputs without elements
        return (self._high - self._low) or abs(self._high) or 1.0


def torch_answers(model: nn.Module, inputs: Any, names: tuple[str, ...]) -> dict[str, Array]:
    """Run a copy of `model` in evaluation mode on the CPU; return its outputs under the names of the graph's outputs.

    Raises
    ------
    ExportError
        The network fails or returns another number of tensors, or its answers are not finite.
    """
    return _named(*copy_for_export(model, inputs), names)


def _named(network: nn.Module, call: NetworkCall, names: tuple[str, ...]) -> dict[str, Array]:
    who = type(network).__name__
    results = tensors_of(network, call)
    if len(results) != len(names):
        raise ExportError(f"{who} returns {len(results)} tensors, its graph has {len(names)} outputs")
    arrays: dict[str, Array] = {name: value.numpy() for name, value in zip(names, results, strict=True)}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ExportError(f"{who} itself gives infinite or undefined values in output {name!r} on these inputs")
    return arrays
