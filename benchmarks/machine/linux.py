"""What Linux tells in /proc and /sys, and the control groups that this process is in. What is not there is None.

Every function takes the folder that holds ``proc`` and ``sys``, or a file in it, so that tests can make one up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["bytes_in", "control_groups", "counter", "memory_limit", "number", "quota_cores", "text", "value"]

_CHUNK_BYTES = 1 << 16
_GROUPS = "sys/fs/cgroup"


def text(path: Path | str) -> str | None:
    """Read a file, white space around it stripped; None where it cannot be read."""
    # Without the layers of a Python file: a look must cost next to nothing.
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, _CHUNK_BYTES):
            parts.append(part)
    except OSError:
        return None  # a process that ended meanwhile, or a counter that this user may not read
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace").strip(" \n\t\0")


def number(path: Path | str) -> int | None:
    """Read a file that holds a whole number."""
    read = text(path) or ""
    return int(read) if read.isdigit() else None


def counter(read: str | None, name: str) -> int | None:
    """Return the whole number behind `name` in what `text` has read."""
    for line in (read or "").splitlines():
        if line.startswith(name) and (rest := line.removeprefix(name).strip()).isdigit():
            return int(rest)
    return None


def value(read: str | None, name: str) -> str | None:
    """Return what stands behind ``name:`` in what `text` has read."""
    for line in (read or "").splitlines():
        key, colon, rest = line.partition(":")
        if colon and key.strip() == name:
            return rest.strip() or None
    return None


def bytes_in(path: Path, label: str) -> int | None:
    """Read what a file of /proc gives in kilobytes behind a label, in bytes.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        How the line begins: ``"VmHWM:"``.
    """
    for line in (text(path) or "").splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return None


def control_groups(root: Path = Path("/"), controller: str = "cpu") -> Iterator[Path]:
    """Find this process's control group and all above it, each of which may have a limit (versions 2 and 1).

    Parameters
    ----------
    root : Path
        Folder that holds ``proc`` and ``sys``.
    controller : str, default="cpu"
        Whose groups, where each has its own (version 1).
    """
    top = root / _GROUPS
    for line in (text(root / "proc/self/cgroup") or "0::").splitlines():
        controllers, _, inside = line.partition(":")[2].partition(":")
        if controllers == "":
            mounts = [top]
        elif controller in controllers.split(","):
            mounts = [top / controllers, top / controller]
        else:
            continue
        mount = next((mount for mount in mounts if mount.is_dir()), None)
        if mount is None:
            continue
        # Inside a container the path may be that of the host; its own group is then what is mounted.
        parts = [part for part in inside.split("/") if part]
        own = mount.joinpath(*parts)
        group = own if ".." not in parts and own.is_dir() else mount
        yield group
        while group != mount:
            group = group.parent
            yield group


def quota_cores(group: Path) -> float | None:
    """Return how many cores' time a control group may use; None: as many as there are."""
    limit, _, period = (text(group / "cpu.max") or "").partition(" ")
    if not limit:
        limit, period = text(group / "cpu.cfs_quota_us") or "", text(group / "cpu.cfs_period_us") or ""
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() and int(period) > 0 else None


def memory_limit(group: Path) -> int | None:
    """Return how many bytes of memory a control group may take; None: as many as there are."""
    limit = number(group / "memory.max")
    return limit if limit is not None else number(group / "memory.limit_in_bytes")
