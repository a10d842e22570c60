"""Resident memory of a measured process in each phase of its life."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import NonNegativeInt, PositiveInt

from benchmarks.records.base import Record

__all__ = ["MemoryPhase", "PhaseName"]

PhaseName: TypeAlias = Literal["start", "import", "load", "compile", "first_run", "steady"]
"""In chronological order. If a runtime does not separate loading from compiling, ``"compile"`` is both."""


class MemoryPhase(Record):
    """Resident memory of the measured process in one phase of its life.

    Parameters
    ----------
    name : {"start", "import", "load", "compile", "first_run", "steady"}
        The phase.
    peak_bytes : int
        Largest resident size, including memory that earlier phases left resident.
    is_running_peak : bool
        False: the peak of this phase alone. True: the system could not reset earlier peaks, so this is the largest size
        since the process started.
    pss_bytes : int or None
        Proportional set size at the end of the phase (a page mapped by n processes counts as 1/n of it); None if the
        system does not report it.
    """

    name: PhaseName
    peak_bytes: PositiveInt
    is_running_peak: bool
    pss_bytes: NonNegativeInt | None
