"""Measure energy, if the machine can: `benchmarks.machine.board.energy_sources` lists the sources.

The figure covers everything the processor, the board or the machine used meanwhile, not one process alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine.board.energy_sources import FEWEST_READINGS, Source, find_source

__all__ = ["EnergyMeter"]

_PERIOD_S = 0.05


class EnergyMeter:
    """Meter of the energy between `start` and `stop`.

    A thread of this process reads about twenty times a second meanwhile, because power rails must be sampled and
    counters overflow within minutes: use it in a process that is not measured.

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
        self._source: Source | None = None
        self._why: str | None = None
        self._find()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def why(self) -> str | None:
        """Why there is no figure; None if there is one."""
        return self._why

    @property
    def sources(self) -> tuple[str, ...]:
        """What is measured, for example ``("package-0", "dram")`` or ``("VDD_IN",)``; empty if nothing is."""
        return self._source.names if self._source is not None else ()

    def start(self) -> EnergyMeter:
        """Start measuring; a meter may be started again after `stop`.

        Raises
        ------
        RuntimeError
            It is already running.
        """
        if self._started:
            raise RuntimeError("stop() ends the measurement before")
        self._started = True
        self._find()
        if self._source is not None and self._read(self._source):
            self._end.clear()
            self._thread = threading.Thread(target=self._follow, args=(self._source,), daemon=True)
            self._thread.start()
        return self

    def stop(self) -> int | None:
        """Stop measuring.

        Returns
        -------
        int or None
            Microjoules since `start`; None if they cannot be read, with the reason in `why`.

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
            self._why = f"fewer than {FEWEST_READINGS} readings of the power rail: too short"
        return energy_uj

    def _find(self) -> None:
        self._source, reason = find_source(self._root, self._clock)
        self._why = reason or None

    def _follow(self, source: Source) -> None:
        while not self._end.wait(self._period_s):
            if not self._read(source):
                return

    def _read(self, source: Source) -> bool:
        try:
            source.add()
        except PermissionError as error:
            self._why = f"{error.filename} may not be read by this user"
        except (OSError, ValueError) as error:
            self._why = f"the energy counter cannot be read: {error}"
        else:
            return True
        return False
