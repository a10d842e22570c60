"""Temperatures of a machine: its thermal zones, and processor sensors without a zone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.machine.board.records import Temperature
from benchmarks.machine.linux import text

__all__ = ["hottest", "temperature_files", "temperatures"]

_OF_CORES = re.compile(r"cpu|core|soc|pkg|package|tctl|tdie|\btj\b|big|little", re.IGNORECASE)
_PROCESSOR_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "scmi_sensors")
_PLAUSIBLE = (-50.0, 150.0)
"""Plausible range in degrees Celsius; disabled sensors give values far outside."""


def temperature_files(root: Path) -> tuple[tuple[str, Path], ...]:
    """List the sensors with the files to read; sensors with the same name are numbered.

    Parameters
    ----------
    root : Path
        Folder that contains ``sys``.
    """
    found = [*_zones(root)]
    zones = {name.replace("-", "_") for name, _ in found}
    found += [(name, path) for name, chip, path in _chips(root) if chip not in zones]
    counted: dict[str, int] = {}
    named = []
    for name, path in found:
        counted[name] = counted.get(name, 0) + 1
        named.append((name if counted[name] == 1 else f"{name} {counted[name]}", path))
    return tuple(named)


def temperatures(files: Iterable[tuple[str, Path]]) -> tuple[Temperature, ...]:
    """Read sensors; those without a plausible value are left out.

    Parameters
    ----------
    files : iterable of (str, Path)
        See `temperature_files`.
    """
    read = []
    for name, path in files:
        try:
            celsius = int(text(path) or "") / 1000
        except ValueError:
            continue
        if _PLAUSIBLE[0] < celsius < _PLAUSIBLE[1]:
            read.append(Temperature(name=name, celsius=celsius, of_cores=bool(_OF_CORES.search(name))))
    return tuple(read)


def hottest(read: Iterable[Temperature]) -> Temperature | None:
    """Return the hottest sensor at the processor, of all sensors if no name says so; None if there is none."""
    every = tuple(read)
    return max([one for one in every if one.of_cores] or every, key=lambda one: one.celsius, default=None)


def _zones(root: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=_place):
        if (name := text(folder / "type")) is not None:
            yield name, folder / "temp"


def _chips(root: Path) -> Iterator[tuple[str, str, Path]]:
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*"), key=_place):
        chip = text(folder / "name")
        if chip in _PROCESSOR_CHIPS:
            for path in sorted(folder.glob("temp*_input"), key=_place):
                label = text(folder / path.name.replace("_input", "_label"))
                yield f"{chip} {label}" if label else chip, chip, path


def _place(path: Path) -> int:
    return int("".join(filter(str.isdigit, path.name)) or 0)
