"""Identity of the board: what it reports about itself and its runtimes, as a table."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from backends import registry
from benchmarks.machine.affinity import format_cores
from benchmarks.machine.board.records import Board, CoreKind
from deploy.report.formatting import size
from deploy.report.table import Table, left

__all__ = ["board_table", "clock", "runtimes"]

_PACKAGES = ("numpy", "onnx")
_UNTOLD = "not told by this machine"
_COMPUTES_NOTHING = "null"


def runtimes() -> dict[str, str]:
    """Return the versions of Python, of the backends usable here, and of the packages they rest on."""
    found = {"Python": platform.python_version()}
    for name in registry.names():
        state = registry.probe(name)
        if state.ok and name != _COMPUTES_NOTHING:
            found[name] = state.version or "version unknown"
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # a source tree beside it
    return found


def clock(khz: int) -> str:
    """Write a clock frequency: ``clock(2_400_000)`` is ``"2.40 GHz"``."""
    return f"{khz / 1e6:.2f} GHz" if khz >= 1_000_000 else f"{khz / 1e3:.0f} MHz"


def board_table(board: Board) -> Table:
    """Return the table of a machine; what it does not report is listed as such."""
    rows = [(name, told or _UNTOLD) for name, told in _facts(board)]
    return Table("Board", left("", "what it tells"), tuple(rows))


def _facts(board: Board) -> Iterator[tuple[str, str]]:
    yield "board", board.model or ""
    if board.soc:
        yield "chip", board.soc
    yield "processor", ", ".join(filter(None, (board.cpu, board.architecture)))
    yield "cores", _cores(board)
    for kind in board.kinds:
        name = kind.title if len(board.kinds) > 1 else "clock"
        told = _kind(kind)
        yield name, f"cores {format_cores(kind.cores)}: {told or _UNTOLD}" if len(board.kinds) > 1 else told
    yield "instructions", " ".join(board.features)
    yield "caches", _caches(board)
    yield "memory", _memory(board)
    yield "system", ", ".join(filter(None, (board.system, board.kernel and f"Linux {board.kernel}")))
    if board.within:
        yield "within", ", ".join(board.within)
    yield "temperatures", ", ".join(f"{one.name} {one.celsius:.1f} C" for one in board.temperatures)
    yield "throttling", ", ".join(board.throttling)
    yield "energy", ", ".join(board.energy) or (f"{_UNTOLD}: {board.no_energy}" if board.no_energy else "")
    yield "accelerators", ", ".join(_named(one.name, one.driver) for one in board.accelerators) or "none seen"
    yield "runtimes", ", ".join(f"{name} {told}" for name, told in board.runtimes.items())


def _cores(board: Board) -> str:
    parts = [f"{board.cores} logical"] if board.cores else []
    if board.physical_cores is not None and board.cores:
        parts.append(f"{board.physical_cores} physical")
    if board.quota_cores is not None:
        parts.append(f"of which this container may use the time of {board.quota_cores:g}")
    return ", ".join(parts)


def _kind(kind: CoreKind) -> str:
    parts = []
    if kind.max_khz:
        parts.append(f"{clock(kind.min_khz)} to {clock(kind.max_khz)}" if kind.min_khz else f"to {clock(kind.max_khz)}")
    if kind.now_khz:
        parts.append(f"now {clock(kind.now_khz)}")
    if kind.governor:
        parts.append(f"governor {kind.governor}")
    if kind.role_from:
        parts.append(f"by {kind.role_from}")
    return ", ".join(parts)


def _caches(board: Board) -> str:
    levels: dict[str, list[str]] = defaultdict(list)
    for one in board.caches:
        name = f"L{one.level}{'' if one.kind == 'unified' else one.kind[0]}"
        levels[name].append(f"{one.number} x {size(one.bytes)}" if one.number > 1 else size(one.bytes))
    return ", ".join(f"{name} {' and '.join(told)}" for name, told in levels.items())


def _memory(board: Board) -> str:
    if board.memory_bytes is None:
        return ""
    limit = board.memory_limit_bytes
    return size(board.memory_bytes) + (f", of which this container may use {size(limit)}" if limit is not None else "")


def _named(name: str, driver: str | None) -> str:
    return f"{name} ({driver})" if driver else name
