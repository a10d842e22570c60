"""Headline facts as plain text: how fast, how steady, how hot, how big, and the best setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.records.measurement import Measurement
from benchmarks.stats.summary import relative_half_width, summarise
from deploy.edge.profile.choice import choose, settings_of
from deploy.edge.profile.record import PartName, Point, Profile
from deploy.edge.profile.steadiness import Steadiness, steadiness
from deploy.report.formatting import duration, interval, percent, rate, ratio, size, verdict

__all__ = [
    "Fact",
    "headline",
    "labels",
    "measurements",
    "millijoules",
    "missing",
    "net_energy_uj",
    "share",
    "short_point",
]

_NOT_MEASURED = "not measured"
_FASTER = 1.05
"""A larger ratio means that the machine was busy at first: heat makes no board faster."""
_NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True)
class Fact:
    """One headline fact.

    Parameters
    ----------
    title : str
        What it is.
    values : tuple of str
        The number: a single one, or those of the baseline and the model.
    details : tuple of str
        Details of the number.
    """

    title: str
    values: tuple[str, ...]
    details: tuple[str, ...] = ()


def measurements(profile: Profile) -> tuple[Measurement, ...]:
    """Return the steady state of each model, the baseline first."""
    return tuple(profile.results.all_measurements())


def labels(profile: Profile) -> tuple[str, ...]:
    """Return the names of the models, the baseline first."""
    return tuple(row.label for row in profile.results.models)


def headline(profile: Profile) -> tuple[Fact, ...]:
    """Return the five facts, in the order of the questions."""
    loads = tuple(steadiness(load, profile.board) for load in profile.sustained)
    return (_fast(profile), _steady(profile, loads), _hot(profile, loads), _big(profile), _best(profile))


def missing(profile: Profile) -> tuple[tuple[str, str], ...]:
    """Return the missing parts, and why; includes settings that did not fit in the budget."""
    told = [(str(one.part), one.why) for one in profile.absent]
    if profile.left_out:
        number = len(profile.left_out)
        told.append((f"{number} {'setting' if number == 1 else 'settings'}", "the budget had no room"))
    return tuple(told)


def share(load: Steadiness) -> str:
    """Write the sustained speed as a share of the burst speed, with its interval: ``"0.63 [0.61, 0.65]"``."""
    if load.interval is None:
        return f"{load.ratio:.2f}"
    return f"{load.ratio:.2f} [{load.interval.low:.2f}, {load.interval.high:.2f}]"


def short_point(point: Point, main: Point) -> str:
    """Write how a setting differs from the main one, and its threads: ``"openvino, 2 threads"``."""
    threads = "1 thread" if point.threads == 1 else f"{point.threads} threads"
    parts = [point.backend, threads + (f" on {point.on}" if point.on else "")]
    parts += [point.precision] if point.precision != main.precision else []
    parts += [f"batch {point.batch}"] if point.batch != 1 else []
    return ", ".join(parts)


def _fast(profile: Profile) -> Fact:
    timed = measurements(profile)
    failed = [one for one in timed if one.failure is not None]
    if failed:
        return Fact("How fast", (_NOT_MEASURED,), tuple(f"{one.subject.label}: {one.failure}" for one in failed))
    summaries = [summarise(one) for one in timed]
    details = []
    for pair in profile.results.comparisons:
        if pair.speedup is not None:
            details.append(f"speed-up {interval(pair.speedup)}, {verdict(pair)}")
    last, own = timed[-1], summaries[-1]
    tails = [("p90", own.p90_ns), ("p99", own.p99_ns), ("p99.9", own.p999_ns)]
    told = [f"{name} {duration(ns)}" for name, ns in tails if ns is not None]
    details.append(f"{_whose(profile)}median call{', ' if told else ''}{', '.join(told)}")
    details.append(f"{rate(own.throughput_per_s)} a second, {duration(last.cpu_ns_per_call or 0)} of CPU a call")
    if starts := [start.total_ns for start in profile.cold if start.label == last.subject.label]:
        details.append(f"cold: {duration(median(starts))} to the first answer")
    return Fact("How fast", tuple(duration(one.p50_ns) for one in summaries), tuple(details))


def _whose(profile: Profile) -> str:
    """Name the model that details belong to, if there are two."""
    names = labels(profile)
    return f"{names[-1]}: " if len(names) > 1 else ""


def _steady(profile: Profile, loads: Sequence[Steadiness]) -> Fact:
    details = list(_spreads(profile))
    if not loads:
        return Fact("How steady", (_NOT_MEASURED,), (_why(profile, "sustained"), *details))
    known = [load.interval for load in loads if load.interval is not None]
    about = f"of the burst's speed, after {loads[-1].lasted_s:.0f} s of load"
    if known:
        ends = ", ".join(f"[{one.low:.2f}, {one.high:.2f}]" for one in known)
        about += f" ({percent(min(one.confidence for one in known))}: {ends})"
    told = list(dict.fromkeys(_throttled(load) for load in loads))
    if len(told) > 1:
        told = [f"{one.label}: {_throttled(load)}" for one, load in zip(profile.sustained, loads, strict=True)]
    if any(load.ratio > _FASTER and (load.interval is None or load.interval.low > 1) for load in loads):
        told.append("faster in the end: the machine was busy at first")
    return Fact("How steady", tuple(f"{load.ratio:.2f}" for load in loads), (about, *told, *details))


def _throttled(load: Steadiness) -> str:
    if load.throttling is not None:
        return f"throttled after {load.throttling.after_s:.0f} s: {load.throttling.words}"
    return "no throttling seen" if load.tells_clock else "throttling: not told by this machine"


def _spreads(profile: Profile) -> Iterator[str]:
    for one in measurements(profile)[-1:]:
        if one.failure is None and (spread := summarise(one).trial_median_ns) is not None:
            yield f"{_whose(profile)}medians of {spread.n} processes within +-{percent(relative_half_width(spread), 1)}"


def _hot(profile: Profile, loads: Sequence[Steadiness]) -> Fact:
    details = [*_energies(profile, loads)]
    told = [load.highest_celsius for load in loads if load.highest_celsius is not None]
    if not told:
        why = _why(profile, "sustained") if not loads else "temperature: not told by this machine"
        return Fact("How hot", (_NOT_TOLD if loads else _NOT_MEASURED,), (why, *details))
    last = loads[-1]
    start = "" if last.start_celsius is None else f"from {last.start_celsius:.0f} C, "
    details.insert(0, f"{start}hottest sensor: {last.sensor}")
    return Fact("How hot", tuple(f"{celsius:.0f} C" for celsius in told), tuple(details))


def _energies(profile: Profile, loads: Sequence[Steadiness]) -> Iterator[str]:
    """Yield the power, and the energy of a call in total and net of the board's power at rest."""
    counted = [load for load in loads if load.energy_uj is not None]
    if not counted:
        yield f"energy: {profile.board.no_energy or profile.why_absent('energy') or _NOT_TOLD}"
        return
    source = ", ".join(profile.board.energy)
    energies = " -> ".join(millijoules(load.energy_uj or 0) for load in counted)
    yield f"{energies} a call, of all that {source} counts"
    if profile.idle_watts is not None:
        net = [net_energy_uj(load, profile.idle_watts) for load in counted]
        yield f"{' -> '.join(map(millijoules, net))} a call above rest ({profile.idle_watts:.1f} W)"
    if counted[-1].watts is not None:
        yield f"{counted[-1].watts:.1f} W in the end"


def net_energy_uj(load: Steadiness, idle_watts: float) -> float:
    """Return the microjoules of a call beyond what the board uses at rest in the same time."""
    return (load.energy_uj or 0.0) - idle_watts * 1e6 * load.lasted_s / load.calls


def millijoules(energy_uj: float) -> str:
    """Write an energy: ``millijoules(31_400)`` is ``"31.4 mJ"``."""
    return f"{energy_uj / 1e3:.1f} mJ" if abs(energy_uj) >= 1e3 else f"{energy_uj:.0f} uJ"


def _big(profile: Profile) -> Fact:
    timed = [one for one in measurements(profile) if one.failure is None]
    files = " -> ".join(size(row.file_bytes) for row in profile.results.models)
    if len(timed) < len(profile.results.models):
        return Fact("How big", (_NOT_MEASURED,), (f"file {files}",))
    summaries = [summarise(one) for one in timed]
    model = " -> ".join(size(one.model_bytes) for one in summaries)
    details = ("peak memory of the process", f"of it the model {model}", f"file {files}")
    return Fact("How big", tuple(size(one.peak_bytes) for one in summaries), details)


def _best(profile: Profile) -> Fact:
    swept = profile.sweep
    own = settings_of(swept, labels(profile)[-1])
    choice = choose(own, swept[0].point.precision) if swept else None
    if choice is None:
        return Fact("Best setting", (_NOT_MEASURED,), (_why(profile, "sweep"),))
    main = swept[0].point
    best = choice.latency
    alike = f"; {len(choice.alike)} others as fast within noise" if choice.alike else ""
    if best.processes == 1:
        alike = "; measured once: how far processes differ is not known"
    details = [f"{_whose(profile)}{duration(best.latency_ns)} a call{alike}"]
    most = choice.throughput
    named = "there too" if most is best else short_point(most.point, main)
    details.append(f"most a second: {named} ({rate(most.per_s)}/s)")
    first = own[0]
    if first.point == main and best is not first:
        details.append(f"{ratio(first.latency_ns / best.latency_ns)} against {short_point(main, main)}")
    other = min(own, key=lambda one: one.latency_ns)
    if other.latency_ns < best.latency_ns:
        details.append(f"in {other.point.precision}: {duration(other.latency_ns)} ({short_point(other.point, main)})")
    return Fact("Best setting", (short_point(best.point, main),), tuple(details))


def _why(profile: Profile, part: PartName) -> str:
    return profile.why_absent(part) or _NOT_MEASURED
