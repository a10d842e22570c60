"""`Finding`: the verdict on one limit before the policy of the check file, and helpers to make findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from benchmarks.records.measurement import Measurement
from deploy.ci.check_file import Limits
from deploy.ci.check_report import CheckRow, Outcome, RowVerdict
from deploy.files.advice import fitting

__all__ = [
    "MOST",
    "QUIETER",
    "WRONG",
    "Asked",
    "Finding",
    "against",
    "in_mb",
    "not_judged",
    "not_measured",
    "to_decide",
    "why_unfit",
]

WRONG = "WrongAnswersError"
"""Failure kind of a model with wrong outputs."""
MOST = 40
"""Maximum number of processes of one model, or of pairs."""
_MORE_TIME = "give it more time: --budget"
_NO_MORE = "more time does not help: choose another limit, or set inconclusive: warn"
QUIETER = "measure again when the machine is quieter, or accept its numbers with --accept-unfit"

_MB = 10**6


class Asked(NamedTuple):
    """Model and place that rows are made for.

    Parameters
    ----------
    model, file : str
        See `CheckRow`.
    limits : Limits
        Limits of the model.
    backend : str or None
        None for limits that do not depend on one.
    place : str
        Where it ran, in readable form.
    explain : str
        Command that explains why a model became slower.
    """

    model: str
    file: str
    limits: Limits
    backend: str | None = None
    place: str = ""
    explain: str = ""


class Finding(NamedTuple):
    """The verdict on one limit, before the policy.

    Parameters
    ----------
    limit, statement : str
        See `CheckRow`.
    verdict : str
        See `CheckRow`.
    reason, remedy : str
        See `CheckRow`.
    allowed, observed, low, high : float or None
        In `unit`.
    unit : str
        See `CheckRow`.
    """

    limit: str
    statement: str
    verdict: RowVerdict
    reason: str
    remedy: str = ""
    allowed: float | None = None
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""

    def row(self, asked: Asked, outcome: Outcome) -> CheckRow:
        """Return the finding as a report row."""
        return CheckRow(
            model=asked.model,
            file=asked.file,
            backend=asked.backend,
            place=asked.place,
            outcome=outcome,
            **{**self._asdict(), "reason": fitting(self.reason)},
        )


def not_judged(limits: Limits, reason: str, names: Collection[str] | None = None) -> tuple[Finding, ...]:
    """Return a "failed" finding for every requested limit.

    Parameters
    ----------
    limits : Limits
        Limits of a model.
    reason : str
        Why they could not be judged.
    names : collection of str, optional
        Limits to include; default: all.
    """
    return tuple(
        Finding(name, f"{name}: {value:g}" if isinstance(value, int | float) else name, "failed", reason)
        for name, value in limits
        if value not in (None, "any") and (names is None or name in names)
    )


def not_measured(limit: str, statement: str, failed: Measurement, allowed: float | None, unit: str) -> Finding:
    """Return a "failed" finding for a limit whose model failed."""
    why = "its answers are wrong" if failed.failure_kind == WRONG else failed.failure or "no samples"
    reason = f"not measured: {failed.subject.label}: {why}"
    return Finding(limit, statement, "failed", reason, allowed=allowed, unit=unit)


def against(value: float, interval: Sequence[float], allowed: float) -> RowVerdict:
    """Judge a value with a confidence interval against an upper limit."""
    low, high = interval
    if high <= allowed:
        return "kept"
    return "broken" if low > allowed and value > allowed else "inconclusive"


def to_decide(n: int) -> str:
    """Return what to do about a limit still undecided after `n` processes, or pairs of them."""
    return _MORE_TIME if n < MOST else _NO_MORE


def why_unfit(sides: Iterable[Measurement]) -> str:
    """Return why the machine was unfit, in words."""
    reasons = (one.fitness.reasons[0].words for one in sides if one.unfit and one.fitness is not None)
    return f"the machine was not fit for measuring: {next(iter(reasons), 'no reason was kept')}"


def in_mb(number: float) -> str:
    """Format bytes in the unit of the check file: ``in_mb(12_345_678)`` is ``"12.3 MB"``."""
    return f"{number / _MB:.3g} MB" if number < 1000 * _MB else f"{number / _MB:,.0f} MB"
