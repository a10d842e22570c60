"""The machine as the runner sees it: its clock, its lock, how quiet it is. An argument, so that tests simulate one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.environment import Watch
from benchmarks.machine_lock import machine_lock
from benchmarks.records import Environment

__all__ = ["Conditions", "Machine", "Observer", "ThisMachine"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the machine was like while something was measured; None where nobody looked."""

    environment: Environment


class Observer(Protocol):
    """Looks at the machine while it measures."""

    def between_trials(self) -> None:
        """Look now: no measured process is alive."""

    def finish(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        """Sum up; all measured processes have ended and were waited for."""


class Machine(Protocol):
    """What the runner needs of a machine."""

    def now_s(self) -> float:
        """Give seconds since some start."""

    def measuring(self, purpose: str, say: Say) -> AbstractContextManager[Observer]:
        """Keep every other measurement away, and observe."""


class ThisMachine:
    """The machine that this program runs on; implements `Machine`."""

    def now_s(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()

    @contextmanager
    def measuring(self, purpose: str, say: Say) -> Iterator[Observer]:
        """Wait until no other measurement runs on this machine, then observe it."""
        with machine_lock(purpose, say=say):
            yield _Observer()


class _Observer:
    def __init__(self) -> None:
        self._watch = Watch()

    def between_trials(self) -> None:
        pass

    def finish(self, versions: Mapping[str, str], *, gpu: bool, threads: int) -> Conditions:
        return Conditions(environment=self._watch.finish(versions, gpu=gpu))
