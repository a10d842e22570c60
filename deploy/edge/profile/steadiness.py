"""Burst and sustained speed, throttling and temperature of a load: functions of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.errors import SettingError
from benchmarks.machine.board.records import Board
from benchmarks.records.measurement import Interval
from benchmarks.stats.summary import percentile_interval
from deploy.edge.profile.identity import clock
from deploy.edge.profile.record import Second, Sustained

__all__ = ["Steadiness", "Throttling", "steadiness"]

_BURST_S = 5.0
_TAIL = 1 / 3
_FELL = 0.95
"""A clock below this share of the burst clock counts as throttled."""
_FOLLOWED = 0.25
"""Smallest share of the clock's drop that speed must show: the clock of an idle core drops too."""
_EACH_SIDE = 0.975
"""Confidence of each of two intervals, so that both hold with 95 %."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """Throttling of the clock.

    Parameters
    ----------
    after_s : float
        Seconds of load until it was seen.
    words : str
        What was seen: ``"2.40 -> 1.50 GHz"``, or what throttles it.
    """

    after_s: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """Summary of a load.

    Parameters
    ----------
    burst_ns, sustained_ns : float
        Median call in the first seconds and in the last third.
    ratio : float
        Sustained speed as a share of the burst speed.
    interval : Interval or None
        Interval of `ratio`; None if the calls are equivalent to too few independent ones.
    lasted_s : float
        Duration of the load.
    calls : int
        Number of calls.
    throttling : Throttling or None
        When the clock dropped; None if it did not, or if that is not reported.
    tells_clock : bool
        Whether throttling would have been visible.
    start_celsius, highest_celsius, end_celsius : float or None
        None if no temperature is reported.
    sensor : str
        The hottest sensor.
    watts : float or None
        Power in the last third; None if nothing counts energy.
    energy_uj : float or None
        Microjoules of one call over all counters; None likewise.
    events : int or None
        How often the processor slowed itself down (x86).
    """

    burst_ns: float
    sustained_ns: float
    ratio: float
    interval: Interval | None
    lasted_s: float
    calls: int
    throttling: Throttling | None
    tells_clock: bool
    start_celsius: float | None
    highest_celsius: float | None
    end_celsius: float | None
    sensor: str
    watts: float | None
    energy_uj: float | None
    events: int | None


def steadiness(load: Sustained, board: Board | None = None) -> Steadiness:
    """Derive the summary of a load.

    Parameters
    ----------
    load : Sustained
        The measured load.
    board : Board, optional
        Board it ran on; without it a reported clock is taken as the real one.
    """
    burst, tail = _burst(load.seconds), _tail(load.seconds)
    burst_ns, sustained_ns = _median_ns(burst), _median_ns(tail)
    told = [(one.reading.celsius, one.reading.sensor) for one in load.seconds if one.reading.celsius is not None]
    hottest = max(told, default=None)
    counted = [one for one in load.seconds if one.energy_uj is not None]
    events = [one.reading.events for one in load.seconds if one.reading.events is not None]
    last = [watts for one in tail if (watts := one.watts) is not None]
    return Steadiness(
        burst_ns=burst_ns,
        sustained_ns=sustained_ns,
        ratio=burst_ns / sustained_ns,
        interval=_interval(burst, tail),
        lasted_s=load.seconds[-1].at_s + load.seconds[-1].lasted_s,
        calls=sum(one.calls for one in load.seconds),
        throttling=_throttling(load, burst, tail, burst_ns / sustained_ns),
        tells_clock=not (board is not None and board.hides_throttling)
        and any(one.reading.khz or one.reading.throttled or one.reading.events is not None for one in load.seconds),
        start_celsius=load.rest.celsius,
        highest_celsius=None if hottest is None else hottest[0],
        end_celsius=load.seconds[-1].reading.celsius,
        sensor="" if hottest is None else hottest[1],
        watts=median(last) if last else None,
        energy_uj=sum(one.energy_uj or 0 for one in counted) / sum(one.calls for one in counted) if counted else None,
        events=max(events) - (load.rest.events or 0) if events else None,
    )


def _burst(seconds: Sequence[Second]) -> Sequence[Second]:
    """Return the first seconds, at most a third of the load."""
    lasted = seconds[-1].at_s + seconds[-1].lasted_s
    end = min(_BURST_S, lasted * _TAIL)
    return [one for one in seconds if one.at_s < end] or seconds[:1]


def _tail(seconds: Sequence[Second]) -> Sequence[Second]:
    lasted = seconds[-1].at_s + seconds[-1].lasted_s
    return [one for one in seconds if one.at_s >= lasted * (1 - _TAIL)] or seconds[-1:]


def _calls(seconds: Sequence[Second]) -> list[int]:
    return [ns for one in seconds for ns in one.calls_ns]


def _median_ns(seconds: Sequence[Second]) -> float:
    return float(median(_calls(seconds)))


def _interval(burst: Sequence[Second], tail: Sequence[Second]) -> Interval | None:
    """Combine the intervals of both medians, which allow for correlated calls."""
    if burst[-1] is tail[-1]:
        return None
    try:
        first, last = (percentile_interval(_calls(part), 0.5, _EACH_SIDE) for part in (burst, tail))
    except SettingError:
        return None
    value = _median_ns(burst) / _median_ns(tail)
    low, high = first.low / last.high, first.high / last.low
    return Interval(
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=first.confidence + last.confidence - 1,
        n=min(first.n, last.n),
    )


def _throttling(load: Sustained, burst: Sequence[Second], tail: Sequence[Second], ratio: float) -> Throttling | None:
    """Return the largest clock drop; if none is reported or seen, the reported reason for throttling."""
    falls = []
    for kind in burst[0].reading.khz:
        before, after = (_clock(part, kind) for part in (burst, tail))
        if before and after and after < _FELL * before and 1 - ratio >= _FOLLOWED * (1 - after / before):
            halfway = (before + after) / 2
            at = next(_seen_s(one) for one in load.seconds if one.reading.khz.get(kind, before) <= halfway)
            name = f" ({kind})" if len(burst[0].reading.khz) > 1 else ""
            falls.append((after / before, Throttling(at, f"{_change(before, after)}{name}")))
    if falls:
        return min(falls, key=lambda fall: fall[0])[1]
    reason = next(((_seen_s(one), one.reading.throttled) for one in load.seconds if one.reading.throttled), None)
    return None if reason is None else Throttling(reason[0], ", ".join(reason[1]))


def _seen_s(one: Second) -> float:
    """Return when the board was read: at the end of a second."""
    return one.at_s + one.lasted_s


def _clock(seconds: Sequence[Second], kind: str) -> float | None:
    clocks = [one.reading.khz[kind] for one in seconds if kind in one.reading.khz]
    return float(median(clocks)) if clocks else None


def _change(before: float, after: float) -> str:
    first, second = clock(round(before)), clock(round(after))
    unit = second.partition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} -> {second}"
