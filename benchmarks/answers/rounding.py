"""Estimate how large an error rounding alone explains; used only if answers differ by more than their tolerance.

The model is run again, unoptimised, with inputs, weights and layer results perturbed by a few roundings
(`benchmarks.answers.shaking`). How far that moves an output shows how the magnitudes, cancellations and comparisons in
the layers amplify rounding; another order of summation may move it as far. A fault (a channel off, axes swapped, a
lower precision) moves it by orders of magnitude more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backends.base import Array, Precision
from benchmarks.answers import reference_process
from benchmarks.errors import WorkerError
from benchmarks.process.child import Conversation

__all__ = ["rounding_of"]

_STEPS: Mapping[Precision, float] = {
    "fp64": 2.0**-47,
    "fp32": 2.0**-18,
    "fp16": 2.0**-9,
    "bf16": 2.0**-6,
    "int8": 2.0**-6,
}
"""Relative perturbation of each number: 64 roundings in fp64 and fp32, whose kernels approximate functions, else 4."""
_INSIDE: Mapping[Precision, float] = {
    "fp64": 2.0**-51,
    "fp32": 2.0**-22,
    "fp16": 2.0**-11,
    "bf16": 2.0**-8,
    "int8": 2.0**-22,
}
"""The same for layer results: 4 roundings, or one if kernels compute in fp32 and round once.

In a quantised file this applies to results of floating-point layers: a different quantisation step is within its
tolerance.
"""
_DRAWS = 3
_MARGIN = 4.0
"""Safety factor: the largest of a few draws is less than the largest possible."""


def rounding_of(
    model: Path, feeds: Mapping[str, Array], *, precision: Precision, timeout_s: float = 600.0
) -> dict[str, float]:
    """Return for each output the error that rounding may cause on these inputs.

    Parameters
    ----------
    model : Path
        ONNX file.
    feeds : Mapping of str to ndarray
        Inputs of one call.
    precision : {"fp64", "fp32", "fp16", "bf16", "int8"}
        Precision whose rounding counts.
    timeout_s : float, default=600.0
        Seconds until the process is killed.

    Returns
    -------
    dict of str to float
        Infinite if rounding decides what the output is; empty if ONNX Runtime does not accept the model.
    """
    steps = {"step": _STEPS[precision], "inside": _INSIDE[precision]}
    question = {"model": str(model.resolve()), "draws": _DRAWS, **steps}
    try:
        with Conversation(["-m", reference_process.__name__], who="ONNX Runtime", timeout_s=timeout_s) as process:
            _, moved = process.ask("shake", question, feeds)
    except WorkerError:
        return {}
    return {name: _MARGIN * float(largest) for name, largest in moved.items()}
