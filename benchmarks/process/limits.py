"""Memory limits of a process, so that a model that needs too much memory fails alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from benchmarks.machine.linux import bytes_in, control_groups, memory_limit

__all__ = ["die_first", "limit_memory", "memory_bytes"]

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_DIES_FIRST = "1000"  # see proc_pid_oom_score_adj(5)
_MEMORY = Path("proc/meminfo")


def die_first() -> None:
    """Ask Linux to kill this process first when memory runs out, not its parent or an unrelated one."""
    with suppress(OSError):  # not Linux, or forbidden by the container: another process may be killed then
        _OOM_SCORE.write_text(_DIES_FIRST, encoding="ascii")


def limit_memory() -> None:
    """Limit this process to the memory of the machine or its container: a larger allocation fails, with a reason.

    Reserved address space is not counted. Without /proc nothing is limited.
    """
    if (limit := memory_bytes()) is None:
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or limit < soft:  # keep a stricter limit set by the user
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory of the machine in bytes, or of its container if less; None without /proc.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    total = bytes_in(root / _MEMORY, "MemTotal:")
    if total is None:
        return None
    return min([total, *filter(None, map(memory_limit, control_groups(root, "memory")))])
