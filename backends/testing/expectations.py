"""Helpers to write promises: an input, the reference answer, and assertions that report the actual result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from backends.base import Backend
from backends.errors import BackendError
from backends.records import Array, CompileOptions

__all__ = ["Promise", "expect", "expect_close", "expect_refusal", "image", "reference"]

Promise: TypeAlias = Callable[[Backend, Path, CompileOptions], None]


def image(batch: int = 2) -> dict[str, Array]:
    """Return the feeds of `small_cnn`: x of shape (batch, 3, 8, 8), float32, the same at every call."""
    return {"x": np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def reference(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """Return the outputs of ONNX's reference evaluator, by name."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(path)
    answers = ReferenceEvaluator(model).run(None, feeds)
    return dict(zip((info.name for info in model.graph.output), answers, strict=True))


def expect(holds: bool, message: str) -> None:
    """Assert with `message`, even under ``python -O``.

    Raises
    ------
    AssertionError
        It does not hold.
    """
    if not holds:
        raise AssertionError(message)


def expect_close(got: Array, wanted: Array, tolerance: float, what: str) -> None:
    """Assert equal shapes and types, and values that differ by at most `tolerance` times the range of `wanted`.

    Raises
    ------
    AssertionError
        They differ; the message starts with `what`.
    """
    expect(got.shape == wanted.shape, f"{what}: shape {wanted.shape} was expected, {got.shape} came")
    expect(got.dtype == wanted.dtype, f"{what}: type {wanted.dtype} was expected, {got.dtype} came")
    span = float(np.ptp(wanted)) or 1.0
    error = float(np.abs(np.subtract(got, wanted, dtype=np.float64)).max())
    expect(error <= tolerance * span, f"{what}: off by {error:.2g}, at most {tolerance * span:.2g} is allowed")


def expect_refusal(kind: type[BackendError], words: tuple[str, ...], action: Callable[[], object]) -> None:
    """Assert that `action` raises `kind` with a one-line message that contains all `words`.

    Raises
    ------
    AssertionError
        Nothing was raised, or the message lacks a word.
    """
    try:
        action()
    except kind as error:
        text = str(error)
        expect("\n" not in text, f"the error must be one line, it is {text!r}")
        missing = [word for word in words if word not in text]
        expect(not missing, f"the error must name {missing}, it says {text!r}")
    else:
        raise AssertionError(f"{kind.__name__} was expected and nothing was raised")
