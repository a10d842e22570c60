"""Joules, where the machine counts them: processor counters (RAPL), or the power rails of a board (INA sensors).

Both count everything that the processor or the board used meanwhile, not one process alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

__all__ = ["EnergyMeter"]

_PERIOD_S = 0.05
_FEWEST_READINGS = 10
# Rails that feed the whole board: where one of them is there, the others are parts of it.
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "SYS_VIN")


class _Source(Protocol):
    """One way to know the energy; `add` may be called from a thread of its own."""

    names: tuple[str, ...]

    def add(self) -> None:
        """Take one reading; raises `OSError` or `ValueError` where there is none."""

    def energy_uj(self) -> int | None:
        """Return the microjoules between the first and the last reading; None where there are too few."""


class EnergyMeter:
    """Measures energy between `start` and `stop`.

    A thread of this process reads about twenty times a second meanwhile, because power rails must be sampled and
    counters run over within minutes: it belongs into a process that is not measured.

    Parameters
    ----------
    root : Path, default="/"
        Where ``sys`` is.
    clock : callable
        Returns nanoseconds.
    period_s : float, default=0.05
        Seconds between two readings.
    """

    def __init__(
        self, root: Path = Path("/"), clock: Callable[[], int] = time.monotonic_ns, period_s: float = _PERIOD_S
    ) -> None:
        self._root = root
        self._clock = clock
        self._period_s = period_s
        self._started = False
        self._source: _Source | None = None
        self._why: str | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def why(self) -> str | None:
        """The reason why there is no figure; None where there is one."""
        return self._why

    @property
    def sources(self) -> tuple[str, ...]:
        """What is counted, for example ``("package-0", "dram")`` or ``("VDD_IN",)``; empty where nothing is."""
        return self._source.names if self._source is not None else ()

    def start(self) -> EnergyMeter:
        """Begin; a meter may be started again after `stop`.

        Raises
        ------
        RuntimeError
            It runs already.
        """
        if self._started:
            raise RuntimeError("stop() ends the measurement before")
        self._started = True
        self._source, self._why = _find(self._root, self._clock)
        if self._source is not None and self._read(self._source):
            self._end.clear()
            self._thread = threading.Thread(target=self._follow, args=(self._source,), daemon=True)
            self._thread.start()
        return self

    def stop(self) -> int | None:
        """End.

        Returns
        -------
        int or None
            Microjoules since `start`; None where they cannot be read, and `why` says so.

        Raises
        ------
        RuntimeError
            `start` was not called.
        """
        if not self._started:
            raise RuntimeError("start() begins the measurement")
        self._started = False
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None
        source = self._source
        if source is None or self._why is not None or not self._read(source):
            return None
        energy_uj = source.energy_uj()
        if energy_uj is None:
            self._why = f"fewer than {_FEWEST_READINGS} readings of the power rail: too short"
        return energy_uj

    def _follow(self, source: _Source) -> None:
        while not self._end.wait(self._period_s):
            if not self._read(source):
                return

    def _read(self, source: _Source) -> bool:
        try:
            source.add()
        except PermissionError as error:
            self._why = f"{error.filename} may not be read by this user"
        except (OSError, ValueError) as error:
            self._why = f"the energy counter cannot be read: {error}"
        else:
            return True
        return False


class _Counters:
    """Counters that run over at a known value (powercap)."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self.names = tuple(_text(zone / "name") for zone in zones)
        self._zones = [(zone / "energy_uj", int(_text(zone / "max_energy_range_uj"))) for zone in zones]
        self._last: list[int] | None = None
        self._sum_uj = 0

    def add(self) -> None:
        """Add what was used since the last reading."""
        now = [int(_text(path)) for path, _ in self._zones]
        if self._last is not None:
            for before, after, (_, most) in zip(self._last, now, self._zones, strict=True):
                self._sum_uj += after - before if after >= before else most - before + after
        self._last = now

    def energy_uj(self) -> int | None:
        """Return the sum of all counters."""
        return self._sum_uj


class _Rail:
    """A power rail whose power is sampled; energy is the area below (trapezoids)."""

    def __init__(self, name: str, watts: Callable[[], int], clock: Callable[[], int]) -> None:
        self.names: tuple[str, ...] = (name,)
        self._power_uw = watts
        self._clock = clock
        self._readings: list[tuple[int, int]] = []

    def add(self) -> None:
        """Take one reading of the power."""
        power_uw = self._power_uw()
        self._readings.append((self._clock(), power_uw))

    def energy_uj(self) -> int | None:
        """Return the area below the readings."""
        if len(self._readings) < _FEWEST_READINGS:
            return None
        areas = [(later - time_ns) * (first + second) for (time_ns, first), (later, second) in pairwise(self._readings)]
        return sum(areas) // (2 * 10**9)


def _find(root: Path, clock: Callable[[], int]) -> tuple[_Source | None, str | None]:
    try:
        if zones := _zones(root):
            return _Counters(zones), None
    except PermissionError as error:
        return None, f"{error.filename} may not be read by this user"
    except (OSError, ValueError) as error:
        return None, f"the energy counters cannot be understood: {error}"
    rails = dict(_rails(root))
    whole = [name for name in rails if name in _WHOLE_BOARD]
    if len(rails) == 1 or len(whole) == 1:
        name = whole[0] if whole else next(iter(rails))
        return _Rail(name, rails[name], clock), None
    if rails:
        return None, f"several power rails ({', '.join(sorted(rails))}), and none is known to feed the whole board"
    return None, "this machine has no energy counter"


def _zones(root: Path) -> list[Path]:
    """Find the packages, and the memory beside them; cores and graphics are parts of their package."""
    zones = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package") or name == "dram":
            zones.append(zone)
    return zones


def _rails(root: Path) -> list[tuple[str, Callable[[], int]]]:
    rails: list[tuple[str, Callable[[], int]]] = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        try:
            is_sensor = _text(chip / "name").startswith("ina")
        except OSError:
            continue
        if is_sensor:
            rails += _rails_of(chip)
    return rails


def _rails_of(chip: Path) -> list[tuple[str, Callable[[], int]]]:
    if (chip / "power1_input").exists():
        return [(_label(chip, 1), lambda: int(_text(chip / "power1_input")))]
    rails: list[tuple[str, Callable[[], int]]] = []
    for channel in (1, 2, 3):
        volts, amperes = chip / f"in{channel}_input", chip / f"curr{channel}_input"
        if volts.exists() and amperes.exists():
            # Millivolts times milliamperes are microwatts.
            rails.append((_label(chip, channel), lambda v=volts, a=amperes: int(_text(v)) * int(_text(a))))  # type: ignore[misc]
    return rails


def _label(chip: Path, channel: int) -> str:
    try:
        return _text(chip / f"in{channel}_label")
    except OSError:
        return f"{chip.name} channel {channel}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
