"""What tells that the clock is held down: a Raspberry Pi's firmware, x86 counters, cooling devices of the kernel."""

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
"""Of now; the same bits 16 higher are since the start of the system."""
_COOLERS = ("cpufreq", "processor")


@dataclass(frozen=True, slots=True)
class Throttled:
    """What is seen at one moment.

    Parameters
    ----------
    reasons : tuple of str
        What holds the clock down right now.
    events : int or None
        How often the processor slowed itself down since the start of the system (x86); None where nothing counts.
    """

    reasons: tuple[str, ...] = ()
    events: int | None = None


class ThrottleReader:
    """Knows where to look; `read` looks.

    Parameters
    ----------
    root : Path
        Folder that holds ``sys``.
    cores : tuple of int
        Whose counters are read.
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
        """What would tell; empty where nothing does."""
        found = ["the firmware (get_throttled)"] if self._firmware is not None else []
        found += ["the processor's counters (thermal_throttle)"] if self._counters else []
        return (*found, *(["the kernel's cooling devices"] if self._coolers else []))

    def read(self) -> Throttled:
        """Look now."""
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
