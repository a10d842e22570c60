"""Resident memory of this process: what it peaked at, never its virtual size."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


def peak_bytes(status: Path = _STATUS) -> int:
    """Read the largest resident size so far, in bytes.

    ``VmHWM`` of Linux; elsewhere ``ru_maxrss`` of `getrusage`, which on Linux would start from the parent's.

    Parameters
    ----------
    status : Path
        The process's status file.
    """
    try:
        text = status.read_text(encoding="ascii")
    except OSError:
        return _maxrss_bytes()
    for line in text.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return _maxrss_bytes()


def forget_peak(clear_refs: Path = _CLEAR_REFS) -> bool:
    """Lower the peak to the present size; tell whether the system did that.

    Parameters
    ----------
    clear_refs : Path
        The process's file that takes the order.
    """
    try:
        with clear_refs.open("r+", encoding="ascii") as file:  # never created where it does not exist
            file.write(_RESET_PEAK)
    except OSError:
        return False
    return True


def _maxrss_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
