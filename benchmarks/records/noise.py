"""Noise during a measurement: what else the machine was doing."""

from __future__ import annotations

from pydantic import Field

from benchmarks.records.base import Record

__all__ = ["Noise", "Share"]

Share = float | None
"""A fraction between 0 and 1, or None if the system does not report it."""


class Noise(Record):
    """Activity on the machine during a measurement, over one interval; None if the system does not report it.

    Parameters
    ----------
    duration_ns : int
        Length of the interval.
    cores : tuple of int
        Observed logical cores: those that the measured processes may use.
    physical_cores : int
        Number of physical cores among them; fewer than `cores` if some are threads of the same one (SMT).
    steal_fraction : float or None
        Share of the cores' time that the hypervisor took.
    others_fraction : float or None
        Share of the cores' time that other processes used, interrupts included.
    siblings_busy_fraction : float or None
        Busy share of the unobserved cores that share a physical core with an observed one; None if there are none.
    cpu_pressure, io_pressure, memory_pressure : float or None
        Share of the time in which some task waited for this (PSI, "some").
    involuntary_switches : int or None
        How often threads of the measured processes were preempted.
    waited_ns : int or None
        Total time these threads were runnable without a core.
    cpu_ns : int or None
        CPU time of the measured processes.
    runnable_median, runnable_max : float or None
        Threads running or waiting for a core when sampled between blocks, while the measured ones rest; the sampling
        thread is not counted.
    frequency_min_khz, frequency_max_khz : int or None
        Lowest and highest clock sampled on the first of the cores.
    frequency_limit_khz : int or None
        Highest clock that the hardware offers there.
    throttled_events : int or None
        How often the processor slowed the cores down because of heat or power (x86).
    cooling : bool or None
        Whether the system was seen limiting the clock because of heat (ARM boards).
    quota_cores : float or None
        CPU time that the container may use, in cores; also None if there is no quota.
    quota_periods, quota_throttled_periods : int or None
        Periods of the quota, and those in which the container was throttled.
    quota_throttled_ns : int or None
        How long it was throttled.
    swapped_in_bytes, swapped_out_bytes : int or None
        Memory read from and written to swap by the whole machine.
    """

    duration_ns: int = Field(ge=0)
    cores: tuple[int, ...]
    physical_cores: int
    steal_fraction: Share = None
    others_fraction: Share = None
    siblings_busy_fraction: Share = None
    cpu_pressure: Share = None
    io_pressure: Share = None
    memory_pressure: Share = None
    involuntary_switches: int | None = None
    waited_ns: int | None = None
    cpu_ns: int | None = None
    runnable_median: float | None = None
    runnable_max: float | None = None
    frequency_min_khz: int | None = None
    frequency_max_khz: int | None = None
    frequency_limit_khz: int | None = None
    throttled_events: int | None = None
    cooling: bool | None = None
    quota_cores: float | None = None
    quota_periods: int | None = None
    quota_throttled_periods: int | None = None
    quota_throttled_ns: int | None = None
    swapped_in_bytes: int | None = None
    swapped_out_bytes: int | None = None
