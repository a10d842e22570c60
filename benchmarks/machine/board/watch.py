"""Monitor the state of a board: clocks, temperature and throttling."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pydantic import Field, NonNegativeInt

from benchmarks.machine.board.records import Board, Celsius, CoreKind, Khz
from benchmarks.machine.board.temperatures import hottest, temperature_files, temperatures
from benchmarks.machine.board.throttling import ThrottleReader
from benchmarks.machine.linux import number
from benchmarks.records.base import Record

__all__ = ["BoardWatch", "Reading", "Watching"]

_MOST_CORES = 8
"""Limit per kind: reading a clock can wake its core."""


class Reading(Record):
    """State of the board at one moment; None or empty where the machine does not report it."""

    khz: dict[str, Khz] = Field(
        default_factory=dict, description="by kind of core: the highest clock among the observed cores"
    )
    celsius: Celsius | None = Field(None, description="temperature of the hottest sensor at the processor")
    sensor: str = ""
    throttled: tuple[str, ...] = Field((), description="what holds the clock down")
    events: NonNegativeInt | None = Field(None, description="how often the processor slowed down since its start")


class Watching(Protocol):
    """A reader of a board's state, as a protocol so that tests can simulate one."""

    def read(self) -> Reading:
        """Read the current state."""


class BoardWatch:
    """Reads the state of a board; the files are found once, so that a reading is cheap.

    Parameters
    ----------
    board : Board
        The board.
    root : Path, default="/"
        Folder that contains ``sys``.
    cores : tuple of int, optional
        Loaded cores; by default all.
    """

    def __init__(self, board: Board, root: Path = Path("/"), cores: tuple[int, ...] | None = None) -> None:
        self._clocks = {kind.title: _clocks(root, kind, cores) for kind in board.kinds}
        self._sensors = temperature_files(root)
        self._throttle = ThrottleReader(root, tuple(core for kind in board.kinds for core in kind.cores))

    def read(self) -> Reading:
        """Read the current state."""
        khz = {name: [clock for path in paths if (clock := number(path))] for name, paths in self._clocks.items()}
        top = hottest(temperatures(self._sensors))
        throttled = self._throttle.read()
        return Reading(
            khz={name: max(clocks) for name, clocks in khz.items() if clocks},
            celsius=None if top is None else top.celsius,
            sensor="" if top is None else top.name,
            throttled=throttled.reasons,
            events=throttled.events,
        )


def _clocks(root: Path, kind: CoreKind, cores: tuple[int, ...] | None) -> list[Path]:
    loaded = [core for core in kind.cores if cores is None or core in cores][:_MOST_CORES]
    return [root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in loaded]
