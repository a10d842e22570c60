"""Peak resident memory of this process in each phase; never its virtual size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from benchmarks.errors import SettingError
from benchmarks.machine.linux import bytes_in
from benchmarks.records.memory import MemoryPhase, PhaseName

__all__ = ["PhaseRecorder", "forget_peak", "peak_bytes", "pss_bytes"]

_ORDER: tuple[PhaseName, ...] = get_args(PhaseName)
_EMPTY_RUNTIME: tuple[PhaseName, ...] = ("start", "import")

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_ROLLUP = Path("/proc/self/smaps_rollup")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


class PhaseRecorder:
    """Reads the memory at the end of each phase and resets the peak for the next one.

    Reading takes up to some tens of milliseconds in a large process, so never do it while something is timed.

    Parameters
    ----------
    peak : callable
        Returns the largest resident size so far, in bytes.
    forget : callable
        Resets the peak to the current size; returns whether it did.
    pss : callable
        Returns the proportional set size in bytes, or None.
    """

    def __init__(
        self,
        peak: Callable[[], int] | None = None,
        forget: Callable[[], bool] | None = None,
        pss: Callable[[], int | None] | None = None,
    ) -> None:
        self._peak = peak or peak_bytes
        self._forget = forget or forget_peak
        self._pss = pss or pss_bytes
        self._phases: list[MemoryPhase] = []
        self._forgotten = True  # before the first phase there is nothing to reset

    def end(self, name: PhaseName) -> MemoryPhase:
        """End the phase `name` and start the next one.

        Parameters
        ----------
        name : str
            A phase later than the previous one; phases may be skipped.

        Raises
        ------
        SettingError
            The phase is unknown, or not later than the previous one.
        """
        if name not in _ORDER:
            raise SettingError(f"phase {name!r} is not one of {', '.join(_ORDER)}")
        if self._phases and _ORDER.index(name) <= _ORDER.index(self._phases[-1].name):
            raise SettingError(f"phase {name!r} cannot follow {self._phases[-1].name!r}")
        phase = MemoryPhase(
            name=name, peak_bytes=self._peak(), is_running_peak=not self._forgotten, pss_bytes=self._pss()
        )
        self._phases.append(phase)
        self._forgotten = self._forget() and self._forgotten
        return phase

    def restart(self) -> None:
        """Restart the current phase: memory used since the last one ended is not the model's."""
        self._forgotten = self._forget() and self._forgotten

    @property
    def phases(self) -> tuple[MemoryPhase, ...]:
        """The phases that have ended."""
        return tuple(self._phases)

    @property
    def baseline_bytes(self) -> int | None:
        """Largest size without the model, up to the end of the runtime's import; None before that."""
        peaks = [phase.peak_bytes for phase in self._phases if phase.name in _EMPTY_RUNTIME]
        return max(peaks) if any(phase.name == "import" for phase in self._phases) else None

    @property
    def peak_bytes(self) -> int | None:
        """Largest size in all phases; None before the first has ended."""
        return max((phase.peak_bytes for phase in self._phases), default=None)


def peak_bytes(status: Path = _STATUS) -> int:
    """Read the largest resident size so far, in bytes.

    ``VmHWM`` on Linux; elsewhere ``ru_maxrss`` of `getrusage`, which on Linux would start from the parent's.

    Parameters
    ----------
    status : Path
        The process's status file.
    """
    peak = bytes_in(status, "VmHWM:")
    return _maxrss_bytes() if peak is None else peak


def pss_bytes(rollup: Path = _ROLLUP) -> int | None:
    """Read the proportional set size, in bytes; None if the system does not report it.

    Parameters
    ----------
    rollup : Path
        The file with the sums over the process's mappings, see proc_pid_smaps(5).
    """
    return bytes_in(rollup, "Pss:")


def forget_peak(clear_refs: Path = _CLEAR_REFS) -> bool:
    """Reset the peak to the current size; return whether the system did that.

    Parameters
    ----------
    clear_refs : Path
        The process's file for this command.
    """
    try:
        with clear_refs.open("r+", encoding="ascii") as file:  # never creates the file
            file.write(_RESET_PEAK)
    except OSError:
        return False
    return True


def _maxrss_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
