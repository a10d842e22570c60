"""Caveats: what makes a measurement doubtful, and by how much."""

from __future__ import annotations

import re
from statistics import median

from benchmarks.records.measurement import Fitness, Trial
from benchmarks.stats.summary import supports

__all__ = ["caveats_about", "is_noise"]

_TRIALS_FOR_AN_INTERVAL = 6
_SPREAD = 0.10
_DRIFT = 0.05
_SHORT_CALL_NS = 10_000
_OF_THE_SAMPLE = re.compile(
    r"\d+ trials?; a 95 % interval|only \d+ timed calls|a call takes|not a verdict|the run was interrupted|"
    r"whether the machine was fit"
)
"""Beginnings of caveats about the amount measured, not about the machine."""


def caveats_about(trials: tuple[Trial, ...], fitness: Fitness | None) -> tuple[str, ...]:
    """Return what a reader should know before trusting the numbers.

    Parameters
    ----------
    trials : tuple of Trial
        Not empty.
    fitness : Fitness or None
        State of the machine meanwhile; None if it was not observed.
    """
    caveats = []
    if len(trials) < _TRIALS_FOR_AN_INTERVAL:
        trials_made = "1 trial" if len(trials) == 1 else f"{len(trials)} trials"
        caveats.append(f"{trials_made}; a 95 % interval needs at least {_TRIALS_FOR_AN_INTERVAL}")
    n_calls = sum(len(trial.calls_ns) for trial in trials)
    if not supports(n_calls, 0.99):
        caveats.append(f"only {n_calls} timed calls: too few for a p99")
    medians = [median(trial.calls_ns) for trial in trials]
    centre = median(medians)
    if (spread := (max(medians) - min(medians)) / centre) > _SPREAD:
        caveats.append(f"the processes' medians differ by {100 * spread:.0f} %")
    if abs(drift := median(_drift(trial) for trial in trials)) > _DRIFT:
        caveats.append(f"latency moved by {100 * drift:+.0f} % from the first to the last third of the blocks")
    if unsteady := sum(trial.warmup_ended == "budget" for trial in trials):
        caveats.append(f"{unsteady} of {len(trials)} warm-ups ended by their budget, not in a steady state")
    if centre < _SHORT_CALL_NS:
        caveats.append(f"a call takes {centre / 1e3:.1f} us: the call from Python is a noticeable part of it")
    return (*caveats, *(reason.words for reason in (fitness.reasons if fitness is not None else ())))


def is_noise(caveat: str) -> bool:
    """Return whether a caveat is about machine noise rather than about the amount measured."""
    return _OF_THE_SAMPLE.match(caveat) is None


def _drift(trial: Trial) -> float:
    third = len(trial.blocks_ns) // 3
    if third == 0:
        return 0.0
    medians = [median(block) for block in trial.blocks_ns]
    return median(medians[-third:]) / median(medians[:third]) - 1
