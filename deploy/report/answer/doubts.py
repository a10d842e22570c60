"""Reasons to distrust the numbers: stated once, grouped, and graded in one word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from benchmarks.records.measurement import Measurement
from benchmarks.stats.caveats import is_noise
from deploy.report.answer.records import Answer, Doubt, NoiseGrade
from deploy.report.formatting import percent, place
from deploy.results.results import Results

__all__ = ["doubts_of", "noise_of", "noise_parts", "whose"]

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
_HIGH = 0.10
"""Noise is high if half the range of the processes' medians, as a share, exceeds this."""


def doubts_of(results: Results) -> tuple[Doubt, ...]:
    """Group the doubts of all measurements by wording, ignoring figures; signs of noise come first."""
    seen: dict[str, dict[str, list[str]]] = {}
    for measurement in results.all_measurements():
        for words in measurement.doubts:
            kind = seen.setdefault(_NUMBER.sub("#", words), {})
            kind.setdefault(words, []).append(whose(results, measurement))
    grouped = [
        Doubt(
            words=_ranged(list(kind)),
            where=tuple(dict.fromkeys(place for places in kind.values() for place in places)),
            noise=is_noise(next(iter(kind))),
        )
        for kind in seen.values()
    ]
    return tuple(sorted(grouped, key=lambda doubt: not doubt.noise))


def noise_of(measurements: Sequence[Measurement], doubts: Sequence[Doubt]) -> NoiseGrade:
    """Grade the noise of all measurements together.

    Parameters
    ----------
    measurements : sequence of Measurement
        Measurements of both models on all backends.
    doubts : sequence of Doubt
        Their doubts, grouped.
    """
    signs = sum(doubt.noise for doubt in doubts)
    spread = max((one for one in map(_spread, measurements) if one is not None), default=None)
    unfit = any(one.unfit for one in measurements)
    looked = any(one.fitness is not None for one in measurements)
    high = unfit or (spread is not None and spread > _HIGH)
    return NoiseGrade(
        grade="HIGH" if high else "MODERATE" if signs else "LOW" if looked else None,
        signs=signs,
        spread=spread,
        unfit=unfit,
    )


def noise_parts(answer: Answer) -> tuple[str, ...]:
    """Return what can still be trusted despite noise: ``("verdicts hold", "absolute times +-24 %")``; may be empty."""
    noise = answer.noise
    if noise.unfit:
        return ("do not believe these numbers",)
    decided = any(row.verdict in ("faster", "slower", "equivalent") for row in answer.backends)
    parts = ["verdicts hold"] if decided else []
    if noise.spread is not None:
        parts.append(f"absolute times +-{percent(noise.spread, 0 if noise.spread >= 0.01 else 1)}")
    return tuple(parts)


def whose(results: Results, measurement: Measurement) -> str:
    """Name a model and where it ran: ``"dense on ort"``."""
    return f"{measurement.subject.label} on {place(results, measurement)}"


def _spread(measurement: Measurement) -> float | None:
    medians = [median(trial.calls_ns) for trial in measurement.trials]
    return (max(medians) - min(medians)) / 2 / median(medians) if len(medians) > 1 else None


def _ranged(said: Sequence[str]) -> str:
    """Merge sentences that differ only in their figures.

    >>> _ranged(["medians differ by 12 %", "medians differ by 24 %"])
    'medians differ by 12 to 24 %'
    """
    figures = [_NUMBER.findall(words) for words in said]
    columns = iter(zip(*figures, strict=True))

    def span(_: re.Match[str]) -> str:
        column = sorted(next(columns), key=float)
        return column[0] if column[0] == column[-1] else f"{column[0]} to {column[-1]}"

    return _NUMBER.sub(span, said[0])
