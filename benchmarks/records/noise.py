"""What else the machine did while something was measured."""

from __future__ import annotations

from pydantic import Field

from benchmarks.records.base import Record

__all__ = ["Noise", "Share"]

Share = float | None
"""A share of 1, or None where the system does not tell."""


class Noise(Record):
    """What happened around a measurement, over one interval; None is what the system does not tell.

    Parameters
    ----------
    duration_ns : int
        Length of the interval.
    cores : tuple of int
        The logical cores looked at: those that the measured processes may use.
    physical_cores : int
        How many physical cores they are; fewer than `cores` where some are threads of the same one (SMT).
    steal_fraction : float or None
        Share of the cores' time that the hypervisor took.
    others_fraction : float or None
        Share of the cores' time that other processes used, interrupts included.
    siblings_busy_fraction : float or None
        Busy share of those cores that are not looked at and share a physical core with one that is; None without such.
    cpu_pressure, io_pressure, memory_pressure : float or None
        Share of the time in which somebody waited for this (PSI, "some").
    involuntary_switches : int or None
        How often threads of the measured processes were preempted.
    waited_ns : int or None
        How long these threads were ready and had no core, summed.
    cpu_ns : int or None
        CPU time of the measured processes.
    runnable_median, runnable_max : float or None
        Threads that ran or waited for a core at the looks between blocks, when the measured ones rest; the one that
        looks is not counted.
    frequency_min_khz, frequency_max_khz : int or None
        Lowest and highest clock seen on the first of the cores at the looks.
    frequency_limit_khz : int or None
        Highest clock that the hardware offers there.
    throttled_events : int or None
        How often the processor slowed the cores down because of heat or power (x86).
    cooling : bool or None
        Whether the system was seen to hold the clock down because of heat (ARM boards).
    quota_cores : float or None
        CPU time that the container may use, in cores; None where there is no quota too.
    quota_periods, quota_throttled_periods : int or None
        Periods of the quota, and those in which the container was stopped.
    quota_throttled_ns : int or None
        How long it was stopped.
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
