"""Energy sources of a machine, and the choice of one.

In order of preference: processor counters (RAPL), the power rails of a board (INA sensors), the power meter of a server
(ACPI), a discharging battery. Each covers the whole processor, board or machine, not one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Protocol

__all__ = ["FEWEST_READINGS", "Source", "find_source"]

FEWEST_READINGS = 10
"""Fewest power readings from which energy is computed."""

_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "SYS_VIN")
"""Rails that feed the whole board: if one is present, the other rails are parts of it."""
_TOGETHER = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Rails that together feed a module: Jetson AGX Orin (whose VDDQ_VDD2_1V8AO comes from VIN_SYS_5V0), AGX Xavier."""
_NOTHING = "this machine has no energy counter"

_Power = Callable[[], int]
"""Returns microwatts."""


class Source(Protocol):
    """A source of energy figures; `add` may be called from a separate thread."""

    names: tuple[str, ...]

    def add(self) -> None:
        """Take one reading; raises `OSError` or `ValueError` if that fails."""

    def energy_uj(self) -> int | None:
        """Return the microjoules between the first and the last reading; None if there are too few."""


class _Counters:
    """Energy counters that wrap around at a known value (powercap)."""

    def __init__(self, zones: Sequence[Path]) -> None:
        self.names = tuple(_text(zone / "name") for zone in zones)
        self._zones = [(zone / "energy_uj", int(_text(zone / "max_energy_range_uj"))) for zone in zones]
        self._last: list[int] | None = None
        self._sum_uj = 0

    def add(self) -> None:
        """Add the energy used since the last reading."""
        now = [int(_text(path)) for path, _ in self._zones]
        if self._last is not None:
            for before, after, (_, most) in zip(self._last, now, self._zones, strict=True):
                self._sum_uj += after - before if after >= before else most - before + after
        self._last = now

    def energy_uj(self) -> int | None:
        """Return the sum of all counters."""
        return self._sum_uj


class _Sampled:
    """A sampled power; energy is the area under it (trapezoids)."""

    def __init__(self, powers: Mapping[str, _Power], clock: Callable[[], int]) -> None:
        self.names = tuple(powers)
        self._powers = tuple(powers.values())
        self._clock = clock
        self._readings: list[tuple[int, int]] = []

    def add(self) -> None:
        """Take one reading of the power."""
        power_uw = sum(power() for power in self._powers)
        self._readings.append((self._clock(), power_uw))

    def energy_uj(self) -> int | None:
        """Return the area under the readings."""
        if len(self._readings) < FEWEST_READINGS:
            return None
        areas = [(later - time_ns) * (first + second) for (time_ns, first), (later, second) in pairwise(self._readings)]
        return sum(areas) // (2 * 10**9)


def find_source(root: Path, clock: Callable[[], int]) -> tuple[Source | None, str]:
    """Return the energy source, or why there is none.

    Parameters
    ----------
    root : Path
        Folder that contains ``sys``.
    clock : callable
        Returns nanoseconds.
    """
    reasons = []
    for find in (_counters, _rails_of_board, _meter, _battery):
        try:
            found = find(root, clock)
        except PermissionError as error:
            reasons.append(f"{error.filename} may not be read by this user")
        except (OSError, ValueError) as error:
            reasons.append(f"the energy counters cannot be understood: {error}")
        else:
            if isinstance(found, str):
                reasons.append(found)
            elif found is not None:
                return found, ""
    return None, "; ".join(reasons) or _NOTHING


def _counters(root: Path, _: Callable[[], int]) -> Source | None:
    """Find the package and memory counters; those of cores and graphics are parts of a package."""
    zones = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = _text(zone / "name")
        if name.startswith("package") or name == "dram":
            _text(zone / "energy_uj")  # only root may read it on many systems
            zones.append(zone)
    return _Counters(zones) if zones else None


def _rails_of_board(root: Path, clock: Callable[[], int]) -> Source | str | None:
    rails = dict(_rails(root))
    whole = [name for name in rails if name in _WHOLE_BOARD]
    if len(rails) == 1 or len(whole) == 1:
        name = whole[0] if whole else next(iter(rails))
        return _Sampled({name: rails[name]}, clock)
    for names in _TOGETHER:
        if all(name in rails for name in names):
            return _Sampled({name: rails[name] for name in names}, clock)
    if rails:
        return f"several power rails ({', '.join(sorted(rails))}), and none is known to feed the whole board"
    return None


def _meter(root: Path, clock: Callable[[], int]) -> Source | None:
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        path = chip / "power1_average"
        if path.exists() and _named(chip) == "power_meter":
            return _Sampled({"power meter of the machine (ACPI)": partial(_number, path)}, clock)
    return None


def _battery(root: Path, clock: Callable[[], int]) -> Source | str | None:
    for folder in sorted((root / "sys/class/power_supply").glob("*")):
        if not (folder / "type").exists() or _text(folder / "type") != "Battery" or not (folder / "status").exists():
            continue
        if (folder / "scope").exists() and _text(folder / "scope") == "Device":
            continue  # of a mouse or a keyboard
        power = _of_battery(folder)
        if power is None:
            continue
        if (status := _text(folder / "status")) != "Discharging":
            return f"battery {folder.name} is not being discharged ({status})"
        return _Sampled({f"battery {folder.name}": power}, clock)
    return None


def _of_battery(folder: Path) -> _Power | None:
    if (folder / "power_now").exists():
        return lambda: abs(_number(folder / "power_now"))
    if (folder / "current_now").exists() and (folder / "voltage_now").exists():
        # Microamperes times microvolts are picowatts.
        return lambda: abs(_number(folder / "current_now")) * _number(folder / "voltage_now") // 10**6
    return None


def _rails(root: Path) -> list[tuple[str, _Power]]:
    rails: list[tuple[str, _Power]] = []
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _named(chip).startswith("ina"):
            rails += _rails_of(chip)
    return rails


def _rails_of(chip: Path) -> list[tuple[str, _Power]]:
    if (chip / "power1_input").exists():
        return [(_label(chip, 1), partial(_number, chip / "power1_input"))]
    rails: list[tuple[str, _Power]] = []
    for channel in (1, 2, 3):
        volts, amperes = chip / f"in{channel}_input", chip / f"curr{channel}_input"
        if volts.exists() and amperes.exists():
            # Millivolts times milliamperes are microwatts.
            rails.append((_label(chip, channel), partial(_product, volts, amperes)))
    return rails


def _named(chip: Path) -> str:
    try:
        return _text(chip / "name")
    except OSError:
        return ""


def _label(chip: Path, channel: int) -> str:
    try:
        return _text(chip / f"in{channel}_label")
    except OSError:
        return f"{chip.name} channel {channel}"


def _product(volts: Path, amperes: Path) -> int:
    return _number(volts) * _number(amperes)


def _number(path: Path) -> int:
    return int(_text(path))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
