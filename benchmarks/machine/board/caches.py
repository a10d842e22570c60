"""CPU caches of a machine, each counted once however many cores share it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from benchmarks.machine.board.records import Cache
from benchmarks.machine.linux import number, text

__all__ = ["caches"]

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_KINDS = {"Data": "data", "Instruction": "instruction", "Unified": "unified"}


def caches(root: Path, cores: Iterable[int]) -> tuple[Cache, ...]:
    """Read the caches of some cores, level by level; empty if the system does not report them.

    Parameters
    ----------
    root : Path
        Folder that contains ``sys``.
    cores : iterable of int
        Logical cores.
    """
    groups: dict[tuple[int, str, int], set[str]] = defaultdict(set)
    for core in cores:
        for folder in (root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index*"):
            level, kind, size = number(folder / "level"), _KINDS.get(text(folder / "type") or ""), _size(folder)
            if level and kind and size:
                groups[level, kind, size].add(text(folder / "shared_cpu_list") or str(core))
    return tuple(
        Cache(
            level=level, kind=cast("Literal['data', 'instruction', 'unified']", kind), bytes=size, number=len(sharers)
        )
        for (level, kind, size), sharers in sorted(groups.items())
    )


def _size(folder: Path) -> int | None:
    read = text(folder / "size") or ""
    digits = read.rstrip("KMG")
    return int(digits) * _UNITS.get(read[-1:], 1) if digits.isdigit() else None
