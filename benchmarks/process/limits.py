"""What a process may take: a model that asks for more memory than there is fails alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from benchmarks.machine.linux import bytes_in, control_groups, memory_limit

__all__ = ["die_first", "limit_memory", "memory_bytes"]

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_DIES_FIRST = "1000"  # see proc_pid_oom_score_adj(5)
_MEMORY = Path("proc/meminfo")


def die_first() -> None:
    """Ask Linux to end this process, not its parent or somebody else's, where memory runs out."""
    with suppress(OSError):  # not Linux, or a container that keeps it: the same happens, to a process less well chosen
        _OOM_SCORE.write_text(_DIES_FIRST, encoding="ascii")


def limit_memory() -> None:
    """Refuse this process more memory than the machine or its container has: allocating fails, with a reason.

    What it only reserves is not counted. Without /proc nothing is limited.
    """
    if (limit := memory_bytes()) is None:
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or limit < soft:  # a stricter limit of the user's stays
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def memory_bytes(root: Path = Path("/")) -> int | None:
    """Return how much memory the machine has, or its container where that is less; None without /proc.

    Parameters
    ----------
    root : Path
        Folder that holds ``proc`` and ``sys``.
    """
    total = bytes_in(root / _MEMORY, "MemTotal:")
    if total is None:
        return None
    return min([total, *filter(None, map(memory_limit, control_groups(root, "memory")))])
