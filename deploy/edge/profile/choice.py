"""Choose the best settings and their close alternatives: pure functions of a sweep's measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from deploy.edge.profile.record import Point, Swept

__all__ = ["Choice", "Setting", "choose", "settings_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Measurements of one model at one setting.

    Parameters
    ----------
    point : Point
        The setting.
    latency_ns : float
        Median over the processes of the medians of their calls.
    low_ns, high_ns : float
        The fastest and the slowest process's median.
    processes : int
        Number of processes.
    per_s : float
        Examples per second of one caller that waits for each answer.
    cpu_ns : float
        CPU time of one call.
    peak_bytes : int
        Largest resident size of any process.
    energy_uj : float or None
        Energy of one example over all counters; None if nothing counts energy.
    """

    point: Point
    latency_ns: float
    low_ns: float
    high_ns: float
    processes: int
    per_s: float
    cpu_ns: float
    peak_bytes: int
    energy_uj: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The best of some settings.

    Parameters
    ----------
    latency, throughput : Setting
        The setting with the shortest call, and the one with the most examples per second.
    alike : tuple of Setting
        Other settings whose latency cannot be told from the shortest: the ranges of their processes overlap.
    efficient : tuple of Setting
        Pareto front of latency and memory, fastest first.
    frugal : tuple of Setting
        Pareto front of latency and energy; empty if nothing counts energy.
    """

    latency: Setting
    throughput: Setting
    alike: tuple[Setting, ...]
    efficient: tuple[Setting, ...]
    frugal: tuple[Setting, ...]


def settings_of(swept: Sequence[Swept], label: str) -> tuple[Setting, ...]:
    """Return the settings at which a model was measured, in the order tried."""
    return tuple(_setting(one) for one in swept if one.label == label and one.trials)


def choose(settings: Sequence[Setting], precision: str) -> Choice | None:
    """Return the best of some settings; None if there are none.

    Parameters
    ----------
    settings : sequence of Setting
        Settings of one model.
    precision : str
        Only settings of this precision are considered: another precision gives other answers.
    """
    settings = [one for one in settings if one.point.precision == precision]
    if not settings:
        return None
    fastest = min(settings, key=lambda one: one.latency_ns)
    counted = [one for one in settings if one.energy_uj is not None]
    return Choice(
        latency=fastest,
        throughput=max(settings, key=lambda one: one.per_s),
        alike=tuple(one for one in settings if one is not fastest and one.low_ns <= fastest.high_ns),
        efficient=_front(settings, [float(one.peak_bytes) for one in settings]),
        frugal=_front(counted, [one.energy_uj or 0.0 for one in counted]),
    )


def _setting(one: Swept) -> Setting:
    medians = [float(median(trial.calls_ns)) for trial in one.trials]
    means = [sum(trial.calls_ns) / len(trial.calls_ns) for trial in one.trials]
    energy = [trial for trial in one.trials if trial.energy_uj is not None and trial.energy_calls]
    per_example = None
    if energy:
        per_example = sum(trial.energy_uj or 0 for trial in energy) / sum(trial.energy_calls for trial in energy)
    return Setting(
        point=one.point,
        latency_ns=median(medians),
        low_ns=min(medians),
        high_ns=max(medians),
        processes=len(medians),
        per_s=1e9 * one.point.batch / median(means),
        cpu_ns=sum(trial.cpu_ns for trial in one.trials) / sum(len(trial.calls_ns) for trial in one.trials),
        peak_bytes=max(trial.peak_bytes for trial in one.trials),
        energy_uj=None if per_example is None else per_example / one.point.batch,
    )


def _front(settings: Sequence[Setting], costs: Sequence[float]) -> tuple[Setting, ...]:
    """Return the Pareto front of latency and cost, fastest first."""
    kept: list[Setting] = []
    lowest = float("inf")
    for one, cost in sorted(zip(settings, costs, strict=True), key=lambda pair: (pair[0].latency_ns, pair[1])):
        if cost < lowest:
            kept.append(one)
            lowest = cost
    return tuple(kept)
