"""What minutes of load say: burst and sustained speed, when the clock fell, how hot it got. Functions of a record."""

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
"""A clock that stays below this share of that of the burst was held down."""
_FOLLOWED = 0.25
"""So much of the clock's fall the speed has to show at least: the clock of an idle core falls too."""
_EACH_SIDE = 0.975
"""Of two intervals, so that both hold with 95 %."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """The clock was held down.

    Parameters
    ----------
    after_s : float
        Seconds of load before it was seen.
    words : str
        What was seen: ``"2.40 -> 1.50 GHz"``, or what holds it down.
    """

    after_s: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """What a load came to.

    Parameters
    ----------
    burst_ns, sustained_ns : float
        Median call in the first seconds and in the last third.
    ratio : float
        Sustained speed as a share of the burst's.
    interval : Interval or None
        Of `ratio`; None where the calls are worth too few independent ones.
    lasted_s : float
        Of all of it.
    calls : int
        In all of it.
    throttling : Throttling or None
        When the clock fell; None where it did not, or nothing tells.
    tells_clock : bool
        Whether anything would have told of throttling.
    start_celsius, highest_celsius, end_celsius : float or None
        None where no temperature is told.
    sensor : str
        The hottest.
    watts : float or None
        In the last third; None where nothing counts energy.
    energy_uj : float or None
        Microjoules of one call, of all that is counted; None likewise.
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
    """Derive what a load came to.

    Parameters
    ----------
    load : Sustained
        What was measured.
    board : Board, optional
        Where; without it a clock that was told counts as the real one.
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
    """Return the first seconds, at most a third of all."""
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
    """Put the intervals of both medians together, which allow for calls that follow each other."""
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
    """Find the clock that fell most; where none is told or fell, what says that it is held down."""
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
    """Return when the board was looked at: at the end of a second."""
    return one.at_s + one.lasted_s


def _clock(seconds: Sequence[Second], kind: str) -> float | None:
    clocks = [one.reading.khz[kind] for one in seconds if kind in one.reading.khz]
    return float(median(clocks)) if clocks else None


def _change(before: float, after: float) -> str:
    first, second = clock(round(before)), clock(round(after))
    unit = second.partition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} -> {second}"
