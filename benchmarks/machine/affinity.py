"""List the CPU cores and their topology, and pin a process to some of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import SettingError

__all__ = [
    "LogicalCore",
    "Topology",
    "allowed_cores",
    "format_cores",
    "parse_cores",
    "pin",
    "read_topology",
]

_CPUS = "sys/devices/system/cpu"
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_MOST_CORES = 1 << 16


@dataclass(frozen=True, slots=True)
class LogicalCore:
    """A logical core, as scheduled by the system.

    Parameters
    ----------
    index : int
        Its number.
    siblings : tuple of int
        The logical cores of the same physical core, itself included, ascending.
    """

    index: int
    siblings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The logical cores that may be used, in ascending order."""

    cores: tuple[LogicalCore, ...]

    @property
    def physical(self) -> int:
        """Number of physical cores among them."""
        return len({core.siblings for core in self.cores})


def parse_cores(text: str) -> tuple[int, ...]:
    """Parse a list such as ``"0-3,8"``.

    Parameters
    ----------
    text : str
        Numbers and ranges, separated by commas.

    Returns
    -------
    tuple of int
        Ascending, without duplicates.

    Raises
    ------
    SettingError
        It is not such a list.
    """
    cores: set[int] = set()
    for part in text.strip().split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise SettingError(f"{text!r} is not a list of cores; write for example 0-3,8")
        first = int(match[1])
        last = int(match[2] or first)
        if last < first or last >= _MOST_CORES:
            raise SettingError(f"{part.strip()!r} in {text!r} is not a range of cores")
        cores.update(range(first, last + 1))
    return tuple(sorted(cores))


def format_cores(cores: Iterable[int]) -> str:
    """Format cores as `parse_cores` reads them, for example ``"0-3,8"``."""
    runs: list[list[int]] = []
    for core in sorted(set(cores)):
        if runs and core == runs[-1][1] + 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def read_topology(root: Path = Path("/"), allowed: Iterable[int] | None = None) -> Topology:
    """Read which logical cores share a physical one.

    A core without information counts as a physical core of its own.

    Parameters
    ----------
    root : Path, default="/"
        Where ``sys`` is.
    allowed : iterable of int, default=None
        The cores that may be used; by default those that this process may use.
    """
    usable = allowed_cores() if allowed is None else tuple(sorted(set(allowed)))
    return Topology(tuple(_core(root / _CPUS / f"cpu{index}", index) for index in usable))


def allowed_cores(pid: int = 0) -> tuple[int, ...]:
    """List the cores on which any thread of a process may run.

    Parameters
    ----------
    pid : int, default=0
        Process; 0 is this one.

    Returns
    -------
    tuple of int
        Ascending. All cores, if the system keeps no such list.

    Raises
    ------
    SettingError
        The process does not exist.
    """
    if not hasattr(os, "sched_getaffinity"):
        return tuple(range(os.cpu_count() or 1))
    cores: set[int] = set()
    for thread in _threads(pid):
        try:
            cores |= os.sched_getaffinity(thread)
        except ProcessLookupError:
            continue  # the thread has ended meanwhile
    if not cores:
        raise SettingError(f"process {pid} has ended")
    return tuple(sorted(cores))


def pin(cores: Iterable[int], pid: int = 0) -> None:
    """Pin a process and all its threads to some cores; threads started later inherit this.

    A runtime may move its own threads elsewhere afterwards: see `allowed_cores`.

    Parameters
    ----------
    cores : iterable of int
        Cores it may run on.
    pid : int, default=0
        Process; 0 is this one.

    Raises
    ------
    SettingError
        The system cannot pin, refuses, or grants only some of the cores.
    """
    wanted = set(cores)
    if not hasattr(os, "sched_setaffinity"):
        raise SettingError("this system cannot pin a process to cores")
    if not wanted:
        raise SettingError("no core to pin the process to")
    done: set[int] = set()
    try:
        # Threads may appear meanwhile; those started by a pinned thread are pinned.
        while new := set(_threads(pid)) - done:
            for thread in new:
                _pin_thread(thread, wanted)
            done |= new
    except PermissionError as error:
        raise SettingError(f"process {pid} belongs to another user and cannot be pinned to cores") from error


def _pin_thread(thread: int, wanted: set[int]) -> None:
    try:
        before = os.sched_getaffinity(thread)
        os.sched_setaffinity(thread, wanted)
        given = os.sched_getaffinity(thread)
        if given != wanted:
            os.sched_setaffinity(thread, before)
    except ProcessLookupError:
        return
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, PermissionError):
            raise
        raise SettingError(_refusal(wanted)) from error
    if given != wanted:
        raise SettingError(_refusal(wanted - given))


def _refusal(cores: set[int]) -> str:
    if any(core < 0 for core in cores):
        return f"cores are numbered from 0; got {min(cores)}"
    several = "core" if len(cores) == 1 else "cores"
    return f"{several} {format_cores(cores)} cannot be used here: no such core, or the container does not have it"


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid or 'self'}/task").iterdir()]
    except FileNotFoundError as error:
        if pid == 0 or not Path("/proc/self").exists():
            return [pid]
        raise SettingError(f"process {pid} does not exist") from error


def _core(folder: Path, index: int) -> LogicalCore:
    siblings = _list(folder / "topology/thread_siblings_list") or _list(folder / "topology/core_cpus_list")
    if siblings is None or index not in siblings:
        siblings = (index,)
    return LogicalCore(index, siblings)


def _list(path: Path) -> tuple[int, ...] | None:
    try:
        return parse_cores(path.read_text())
    except (OSError, ValueError):
        return None
