"""Read /proc, /sys and the control groups of this process on Linux; missing values are None.

Every function takes the folder that contains ``proc`` and ``sys``, or a file in it, so that tests can simulate one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["bytes_in", "control_groups", "counter", "memory_limit", "number", "quota_cores", "text", "value"]

_CHUNK_BYTES = 1 << 16
_GROUPS = "sys/fs/cgroup"


def text(path: Path | str) -> str | None:
    """Read a file and strip surrounding white space; None if it cannot be read."""
    # Bypasses Python's file layers: sampling must be cheap.
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, _CHUNK_BYTES):
            parts.append(part)
    except OSError:
        return None  # the process has ended meanwhile, or this user may not read the counter
    finally:
        os.close(descriptor)
    return b"".join(parts).decode(errors="replace").strip(" \n\t\0")


def number(path: Path | str) -> int | None:
    """Read a file that contains a whole number."""
    read = text(path) or ""
    return int(read) if read.isdigit() else None


def counter(read: str | None, name: str) -> int | None:
    """Return the whole number after `name` in the output of `text`."""
    for line in (read or "").splitlines():
        if line.startswith(name) and (rest := line.removeprefix(name).strip()).isdigit():
            return int(rest)
    return None


def value(read: str | None, name: str) -> str | None:
    """Return the rest of the line after ``name:`` in the output of `text`."""
    for line in (read or "").splitlines():
        key, colon, rest = line.partition(":")
        if colon and key.strip() == name:
            return rest.strip() or None
    return None


def bytes_in(path: Path, label: str) -> int | None:
    """Return in bytes the figure that a /proc file gives in kilobytes after a label.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        Start of the line: ``"VmHWM:"``.
    """
    for line in (text(path) or "").splitlines():
        if line.startswith(label):
            return int(line.split()[1]) * 1024
    return None


def control_groups(root: Path = Path("/"), controller: str = "cpu") -> Iterator[Path]:
    """Yield this process's control group and all its parents, each of which may have a limit (versions 2 and 1).

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    controller : str, default="cpu"
        Controller whose groups to yield, if each has its own (version 1).
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
        # Inside a container the path may be the host's; the mount itself is then this process's group.
        parts = [part for part in inside.split("/") if part]
        own = mount.joinpath(*parts)
        group = own if ".." not in parts and own.is_dir() else mount
        yield group
        while group != mount:
            group = group.parent
            yield group


def quota_cores(group: Path) -> float | None:
    """Return the CPU quota of a control group, in cores; None if it has none."""
    limit, _, period = (text(group / "cpu.max") or "").partition(" ")
    if not limit:
        limit, period = text(group / "cpu.cfs_quota_us") or "", text(group / "cpu.cfs_period_us") or ""
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() and int(period) > 0 else None


def memory_limit(group: Path) -> int | None:
    """Return the memory limit of a control group, in bytes; None if it has none."""
    limit = number(group / "memory.max")
    return limit if limit is not None else number(group / "memory.limit_in_bytes")
