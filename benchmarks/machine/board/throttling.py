"""Detect clock throttling: from a Raspberry Pi's firmware, x86 counters and the kernel's cooling devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine.linux import number, text

__all__ = ["ThrottleReader", "Throttled"]

_FIRMWARE = (
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/devices/platform/soc/soc*:firmware/get_throttled",
    "sys/devices/platform/soc@*/*firmware/get_throttled",
    "sys/devices/platform/*firmware/get_throttled",
)
_BITS = {
    0: "under-voltage",
    1: "the firmware caps the clock",
    2: "the firmware throttles",
    3: "soft temperature limit",
}
"""Bits of the current state; those 16 higher are for the time since boot."""
_COOLERS = ("cpufreq", "processor")


@dataclass(frozen=True, slots=True)
class Throttled:
    """Throttling at one moment.

    Parameters
    ----------
    reasons : tuple of str
        Why the clock is limited right now.
    events : int or None
        How often the processor slowed itself down since boot (x86); None if not counted.
    """

    reasons: tuple[str, ...] = ()
    events: int | None = None


class ThrottleReader:
    """Reads throttling; the files are found once, on creation.

    Parameters
    ----------
    root : Path
        Folder that contains ``sys``.
    cores : tuple of int
        Cores whose counters are read.
    """

    def __init__(self, root: Path, cores: tuple[int, ...]) -> None:
        self._firmware = next((path for pattern in _FIRMWARE for path in sorted(root.glob(pattern))), None)
        counters = [
            root / f"sys/devices/system/cpu/cpu{core}/thermal_throttle/{who}_throttle_count"
            for core in cores
            for who in ("core", "package")
        ]
        self._counters = [path for path in counters if number(path) is not None]
        self._coolers = [
            (kind, path.parent / "cur_state")
            for path in sorted((root / "sys/class/thermal").glob("cooling_device*/type"))
            if any(name in (kind := text(path) or "").lower() for name in _COOLERS)
        ]

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources that report throttling; empty if there are none."""
        found = ["the firmware (get_throttled)"] if self._firmware is not None else []
        found += ["the processor's counters (thermal_throttle)"] if self._counters else []
        return (*found, *(["the kernel's cooling devices"] if self._coolers else []))

    def read(self) -> Throttled:
        """Read the current state."""
        reasons = []
        if self._firmware is not None:
            reasons += _bits(text(self._firmware))
        reasons += [f"cooling device {kind}" for kind, path in self._coolers if (number(path) or 0) > 0]
        counts = [count for path in self._counters if (count := number(path)) is not None]
        return Throttled(tuple(dict.fromkeys(reasons)), sum(counts) if counts else None)


def _bits(read: str | None) -> list[str]:
    try:
        flags = int(read or "", 16)
    except ValueError:
        return []
    return [words for bit, words in _BITS.items() if flags >> bit & 1]
