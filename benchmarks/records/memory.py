"""Resident memory of a measured process in the phases of its life."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import NonNegativeInt, PositiveInt

from benchmarks.records.base import Record

__all__ = ["MemoryPhase", "PhaseName"]

PhaseName: TypeAlias = Literal["start", "import", "load", "compile", "first_run", "steady"]
"""In the order of time. Where a runtime does not tell loading from compiling, ``"compile"`` is both."""


class MemoryPhase(Record):
    """Resident memory of the measured process in one phase of its life.

    Parameters
    ----------
    name : {"start", "import", "load", "compile", "first_run", "steady"}
        The phase.
    peak_bytes : int
        Largest resident size. It holds what the phases before have left resident.
    is_running_peak : bool
        False: the peak of this phase alone. True: the system could not forget earlier peaks, so that this is the
        largest size since the process started.
    pss_bytes : int or None
        Proportional set size at the end of the phase (a page that n processes map counts as 1/n of it); None where the
        system does not tell.
    """

    name: PhaseName
    peak_bytes: PositiveInt
    is_running_peak: bool
    pss_bytes: NonNegativeInt | None
