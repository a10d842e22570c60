"""Records that the fixtures return, and the errors and warnings that they raise besides assertions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ComparedModels", "MeasuredModel", "ModelSpeedError", "ModelSpeedWarning", "compared", "measured"]

_MS = 1e3


class ModelSpeedError(Exception):
    """The measuring process gave no answer; whether the model is fast is unknown."""


class ModelSpeedWarning(pytest.PytestWarning):
    """An inconclusive comparison, or an unfit machine, if the policy is ``warn``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """How one model ran on one backend.

    Parameters
    ----------
    model : str
        Its name, from the file.
    backend : str
        Backend that it ran on.
    p50_ms : float
        Median latency of one call, in milliseconds.
    p90_ms, p99_ms, p999_ms : float or None
        None if fewer than 64, 662 and 6636 calls were timed.
    per_second : float
        Examples per second, one call at a time.
    peak_bytes : int
        Resident memory of the measured process.
    n_calls, n_processes : int
        Timed calls, and the processes that made them.
    machine : str
        Fingerprint of the machine: times of different machines must not be compared.
    results_file : Path
        The results, for ``deploy report``.
    """

    model: str
    backend: str
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    per_second: float
    peak_bytes: int
    n_calls: int
    n_processes: int
    machine: str
    results_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModels:
    """Result of one comparison.

    Parameters
    ----------
    verdict : str
        ``"faster"``, ``"equivalent"``, ``"inconclusive"`` or ``"slower"``.
    line : str
        The answer in one line.
    speedup : float
        Median latency of the baseline over that of the candidate.
    interval : (float, float)
        Its confidence interval.
    confidence : float
        Confidence level of the interval: 0.95 for 95 %.
    margin : float
        Smallest effect that counts, as a share.
    candidate, baseline : MeasuredModel
        The two models, measured in turn.
    results_file : Path
        The results, for ``deploy report``.
    """

    verdict: str
    line: str
    speedup: float
    interval: tuple[float, float]
    confidence: float
    margin: float
    candidate: MeasuredModel
    baseline: MeasuredModel
    results_file: Path


def measured(row: dict[str, Any], results_file: Path) -> MeasuredModel:
    """Convert one row of the measuring process's answer to a record."""
    told = row["extra_info"]
    return MeasuredModel(
        model=told["model"],
        backend=told["backend"],
        p50_ms=_MS * told["p50_s"],
        p90_ms=_ms(told["p90_s"]),
        p99_ms=_ms(told["p99_s"]),
        p999_ms=_ms(told["p999_s"]),
        per_second=told["per_second"],
        peak_bytes=told["peak_bytes"],
        n_calls=row["stats"]["rounds"],
        n_processes=len(told["process_medians_s"]),
        machine=told["machine"],
        results_file=results_file,
    )


def compared(answer: dict[str, Any], results_file: Path) -> ComparedModels:
    """Convert the measuring process's answer for two timed models to a record."""
    baseline, candidate = answer["document"]["benchmarks"]
    told = candidate["extra_info"]
    return ComparedModels(
        verdict=answer["verdict"],
        line=answer["line"],
        speedup=told["speedup"],
        interval=(told["speedup_low"], told["speedup_high"]),
        confidence=told["confidence"],
        margin=told["margin"],
        candidate=measured(candidate, results_file),
        baseline=measured(baseline, results_file),
        results_file=results_file,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _MS * seconds
