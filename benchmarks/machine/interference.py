"""Observe what else the machine does during a measurement: sampled at the start, between blocks and at the end.

Everything is read from Linux's own counters; missing values (another system, a container that hides them) are None.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine.affinity import read_topology
from benchmarks.machine.linux import control_groups, counter, number, quota_cores, text
from benchmarks.records.noise import Noise, Share

__all__ = ["NoiseWatch"]

_CPUS = "sys/devices/system/cpu"
_MOST_FREQUENCIES = 4  # on some machines, reading one wakes its core
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PRESSURES = ("cpu", "io", "memory")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Time of one core since boot, in kernel ticks."""

    total: int = 0
    busy: int = 0
    steal: int = 0

    def __add__(self, other: _Ticks) -> _Ticks:
        return _Ticks(self.total + other.total, self.busy + other.busy, self.steal + other.steal)

    def __sub__(self, other: _Ticks) -> _Ticks:
        return _Ticks(self.total - other.total, self.busy - other.busy, self.steal - other.steal)


@dataclass(frozen=True, slots=True)
class _Quota:
    """Counters of one control group."""

    periods: int
    throttled: int
    throttled_ns: int


@dataclass(frozen=True, slots=True)
class _Machine:
    """Counters of the machine at one moment."""

    at_ns: int
    ticks: dict[int, _Ticks]
    pressure_us: dict[str, int | None]
    throttled: int | None
    swapped: tuple[int, int] | None
    quotas: dict[Path, _Quota]


class NoiseWatch:
    """Watches the machine over an interval; do not use it in the measured process.

    Parameters
    ----------
    root : Path, default="/"
        Where ``proc`` and ``sys`` are.
    pids : iterable of int, default=()
        The measured processes; `follow` adds those that start later.
    cores : iterable of int, default=None
        The logical cores they use; by default those that this process may use.
    clock : callable
        Returns nanoseconds.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        pids: Iterable[int] = (),
        cores: Iterable[int] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._root = root
        self._clock = clock
        topology = read_topology(root, cores)
        self._cores = tuple(core.index for core in topology.cores)
        self._physical = topology.physical
        self._siblings = tuple(sorted({one for core in topology.cores for one in core.siblings} - set(self._cores)))
        self._groups = tuple(control_groups(root))
        self._clocks = [root / _CPUS / f"cpu{core}/cpufreq" for core in self._cores[:_MOST_FREQUENCIES]]
        self._coolers = [
            path.parent / "cur_state"
            for path in (root / "sys/class/thermal").glob("cooling_device*/type")
            if "cpufreq" in (text(path) or "")
        ]
        self._followed = [_Process(root, pid) for pid in pids]
        self._runnable: list[int] = []
        self._frequencies: list[int] = []
        self._cooled: list[bool] = []
        self._start: _Machine | None = None

    def start(self) -> None:
        """Start the interval."""
        self._runnable, self._frequencies, self._cooled = [], [], []
        for process in self._followed:
            process.begin()
        self._start = self._read()
        self.sample()

    def follow(self, pid: int) -> None:
        """Treat one more process as measured, from now on."""
        process = _Process(self._root, pid)
        process.begin()
        self._followed.append(process)

    def sample(self) -> None:
        """Sample between two blocks. What a process uses after its last sample is lost when it ends."""
        for process in self._followed:
            process.look()
        # The same count as in /proc/stat, whose other lines are slow to produce on a machine with many cores.
        fields = (text(self._root / "proc/loadavg") or "").split()
        if len(fields) > 3 and (running := fields[3].partition("/")[0]).isdigit():
            self._runnable.append(max(0, int(running) - 1))
        for folder in self._clocks:
            if (frequency := number(folder / "scaling_cur_freq")) is not None:
                self._frequencies.append(frequency)
        for path in self._coolers:
            if (state := number(path)) is not None:
                self._cooled.append(state > 0)

    def finish(self) -> Noise:
        """End the interval and return the observed noise.

        Raises
        ------
        RuntimeError
            `start` was not called.
        """
        if self._start is None:
            raise RuntimeError("start() begins the interval")
        self.sample()
        start, end = self._start, self._read()
        ticks = _between(start, end, self._cores)
        own_ns = _total(process.cpu_ns for process in self._followed)
        others = None
        if ticks is not None and (own_ns is not None or not self._followed):
            # Both are counted in ticks, but not at the same moment: values just below 0 are possible.
            others = max(0.0, (ticks.busy - (own_ns or 0) * _TICKS_PER_S / 1e9) / ticks.total)
        siblings = _between(start, end, self._siblings)
        quota = _quota_between(start, end)
        duration_ns = end.at_ns - start.at_ns
        pressure = {name: _pressure(start, end, name, duration_ns) for name in _PRESSURES}
        limits = [limit for folder in self._clocks if (limit := number(folder / "cpuinfo_max_freq")) is not None]
        swapped = None
        if start.swapped is not None and end.swapped is not None:
            swapped = [(after - before) * _PAGE_BYTES for before, after in zip(start.swapped, end.swapped, strict=True)]
        return Noise(
            duration_ns=duration_ns,
            cores=self._cores,
            physical_cores=self._physical,
            steal_fraction=None if ticks is None else ticks.steal / ticks.total,
            others_fraction=others,
            siblings_busy_fraction=None if siblings is None else siblings.busy / siblings.total,
            cpu_pressure=pressure["cpu"],
            io_pressure=pressure["io"],
            memory_pressure=pressure["memory"],
            involuntary_switches=_total(process.switches for process in self._followed),
            waited_ns=_total(process.waited_ns for process in self._followed),
            cpu_ns=own_ns,
            runnable_median=median(self._runnable) if self._runnable else None,
            runnable_max=max(self._runnable, default=None),
            frequency_min_khz=min(self._frequencies, default=None),
            frequency_max_khz=max(self._frequencies, default=None),
            frequency_limit_khz=max(limits, default=None),
            throttled_events=_difference(start.throttled, end.throttled),
            cooling=any(self._cooled) if self._cooled else None,
            quota_cores=min(filter(None, map(quota_cores, self._groups)), default=None),
            quota_periods=None if quota is None else quota.periods,
            quota_throttled_periods=None if quota is None else quota.throttled,
            quota_throttled_ns=None if quota is None else quota.throttled_ns,
            swapped_in_bytes=None if swapped is None else swapped[0],
            swapped_out_bytes=None if swapped is None else swapped[1],
        )

    def _read(self) -> _Machine:
        root = self._root
        return _Machine(
            at_ns=self._clock(),
            ticks=_ticks(root),
            pressure_us={name: _pressure_us(root / "proc/pressure" / name) for name in _PRESSURES},
            throttled=_throttled(root, self._cores),
            swapped=_swapped(root),
            quotas={group: quota for group in self._groups if (quota := _quota(group)) is not None},
        )


class _Process:
    """Resources a measured process used from `begin` to its last sample."""

    def __init__(self, root: Path, pid: int) -> None:
        self._folder = str(root / f"proc/{pid}")
        self._first: dict[str, tuple[int, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._ticks: list[int] = []

    def begin(self) -> None:
        """Start counting."""
        self._last, self._ticks = {}, []
        self.look()
        self._first = dict(self._last)

    def look(self) -> None:
        """Read the counters of its threads; a thread that appeared since `begin` counts from 0."""
        stat = (text(f"{self._folder}/stat") or "").rpartition(")")[2].split()
        if len(stat) > 12:
            self._ticks.append(int(stat[11]) + int(stat[12]))
        try:
            threads = os.listdir(f"{self._folder}/task")  # noqa: PTH208 (twice as fast)
        except OSError:
            return
        for thread in threads:
            waited = (text(f"{self._folder}/task/{thread}/schedstat") or "").split()
            switches = counter(text(f"{self._folder}/task/{thread}/status"), "nonvoluntary_ctxt_switches:")
            if len(waited) > 1 and switches is not None:
                self._last[thread] = switches, int(waited[1])

    @property
    def cpu_ns(self) -> int | None:
        """CPU time of all its threads."""
        return (self._ticks[-1] - self._ticks[0]) * 10**9 // _TICKS_PER_S if self._ticks else None

    @property
    def switches(self) -> int | None:
        """How often its threads were preempted."""
        return self._since(0)

    @property
    def waited_ns(self) -> int | None:
        """How long its threads were runnable without a core."""
        return self._since(1)

    def _since(self, which: int) -> int | None:
        if not self._last:
            return None
        return sum(last[which] - self._first.get(name, (0, 0))[which] for name, last in self._last.items())


def _ticks(root: Path) -> dict[int, _Ticks]:
    ticks = {}
    for line in (text(root / "proc/stat") or "").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(fields) >= 8:
            # user, nice (both including guests), system, idle, waiting for a disk, two kinds of interrupts, stolen
            user, nice, system, idle, waiting, hard, soft, steal = map(int, fields[:8])
            busy = user + nice + system + hard + soft
            ticks[int(name[3:])] = _Ticks(busy + idle + waiting + steal, busy, steal)
        elif not name.startswith("cpu"):
            break
    return ticks


def _between(start: _Machine, end: _Machine, cores: Iterable[int]) -> _Ticks | None:
    common = [core for core in cores if core in start.ticks and core in end.ticks]
    ticks = sum((end.ticks[core] - start.ticks[core] for core in common), _Ticks())
    return ticks if ticks.total > 0 else None


def _pressure_us(path: Path) -> int | None:
    some = next((line for line in (text(path) or "").splitlines() if line.startswith("some ")), "")
    return counter("\n".join(some.split()), "total=")


def _pressure(start: _Machine, end: _Machine, name: str, duration_ns: int) -> Share:
    waited_us = _difference(start.pressure_us[name], end.pressure_us[name])
    return None if waited_us is None or duration_ns <= 0 else min(1.0, 1e3 * waited_us / duration_ns)


def _throttled(root: Path, cores: Iterable[int]) -> int | None:
    folders = [root / _CPUS / f"cpu{core}/thermal_throttle" for core in cores]
    counts = [number(folder / f"{who}_throttle_count") for folder in folders for who in ("core", "package")]
    return _total(count for count in counts if count is not None)


def _swapped(root: Path) -> tuple[int, int] | None:
    read = text(root / "proc/vmstat")
    pages_in, pages_out = counter(read, "pswpin "), counter(read, "pswpout ")
    return None if pages_in is None or pages_out is None else (pages_in, pages_out)


def _quota(group: Path) -> _Quota | None:
    read = text(group / "cpu.stat")
    periods, throttled = counter(read, "nr_periods "), counter(read, "nr_throttled ")
    if periods is None or throttled is None:
        return None
    spent_us = counter(read, "throttled_usec ")
    spent_ns = counter(read, "throttled_time ") if spent_us is None else 1000 * spent_us
    return _Quota(periods, throttled, spent_ns or 0)


def _quota_between(start: _Machine, end: _Machine) -> _Quota | None:
    """Return the group throttled most: a throttled parent group also stops this process."""
    groups = [
        _Quota(
            after.periods - before.periods, after.throttled - before.throttled, after.throttled_ns - before.throttled_ns
        )
        for group, after in end.quotas.items()
        if (before := start.quotas.get(group)) is not None
    ]
    return max(groups, key=lambda quota: (quota.throttled / max(1, quota.periods), quota.periods), default=None)


def _total(values: Iterable[int | None]) -> int | None:
    total = None
    for value in values:
        if value is None:
            return None
        total = (total or 0) + value
    return total


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
