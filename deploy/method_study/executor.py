"""Where the jobs of a study run: in processes of this machine, or wherever another executor takes them.

A job gets its own GPUs where there are any. Where it gets several, its training runs on all of them: torchrun starts
one process for each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from benchmarks.environment import cores_available
from benchmarks.process import package_environment

__all__ = [
    "CHILD",
    "LOG",
    "ChildProcess",
    "Executor",
    "LocalProcesses",
    "Running",
    "child_environment",
    "last_words",
    "visible_gpus",
]

CHILD = "deploy.method_study.child"
_LAUNCHER = "deploy.method_study.launcher"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
LOG = "log.txt"
_WORDS_LIMIT = 300


class Running(Protocol):
    """A job that was started."""

    def poll(self) -> str | None:
        """Return None while it runs, then why it ended without a result; empty when it ended by itself."""

    def close(self) -> None:
        """End it with all its processes; a second call does nothing."""


class Executor(Protocol):
    """What starts jobs.

    The folder of the study is all that a job shares with the one that starts it: another machine needs it under the
    same path.
    """

    slots: int
    """Jobs that may run at the same time."""

    def start(self, root: Path, folder: Path) -> Running:
        """Start the job that lies in `folder`, inside the folder `root` of the study."""


def visible_gpus() -> tuple[str, ...]:
    """List the GPUs that a process started now would see, as ``CUDA_VISIBLE_DEVICES`` names them. Asks no library."""
    said = os.environ.get(_VISIBLE)
    if said is not None:
        return tuple(filter(None, (name.strip() for name in said.split(","))))
    with suppress(OSError):
        return tuple(str(index) for index, _ in enumerate(_DRIVER_GPUS.iterdir()))
    return ()


def child_environment(slots: int, ranks: int = 1) -> dict[str, str]:
    """Give the environment of a job where so many share this machine, each with so many processes."""
    threads = str(max(1, cores_available() // (slots * ranks)))
    # OpenMP threads that wait by spinning hold up the ones they wait for where processes share cores.
    return {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", **package_environment()}


class LocalProcesses:
    """One process for each job, on this machine; they die with this process, however it ends.

    Parameters
    ----------
    slots : int
        Jobs at the same time; they share the cores evenly, unless ``OMP_NUM_THREADS`` is set.
    ranks : int
        Processes that share a job's training, each on a GPU of its own where there are any.
    gpus : sequence of str
        What the jobs share, as ``CUDA_VISIBLE_DEVICES`` names them: each slot has `ranks` of them, in turn.
    """

    def __init__(self, slots: int = 1, *, ranks: int = 1, gpus: Sequence[str] = ()) -> None:
        self.slots = slots
        self._ranks = ranks
        self._gpus = tuple(gpus)
        self._environment = child_environment(slots, ranks)
        self._started: list[tuple[int, ChildProcess]] = []

    def start(self, root: Path, folder: Path) -> Running:
        """Start the child; what it says goes to the log in the job's folder."""
        self._started = [(slot, child) for slot, child in self._started if not child.closed]
        slot = min(set(range(len(self._started) + 1)) - {slot for slot, _ in self._started})
        child = ChildProcess(root, folder, {**self._environment, **self._share(slot)}, ranks=self._ranks)
        self._started.append((slot, child))
        return child

    def _share(self, slot: int) -> dict[str, str]:
        if not self._gpus:
            return {}
        own = (self._gpus[(slot * self._ranks + rank) % len(self._gpus)] for rank in range(self._ranks))
        return {_VISIBLE: ",".join(own)}


class ChildProcess:
    """The process of one job, and its log.

    Parameters
    ----------
    root, folder : Path
        Of the study, and of the job in it.
    environment : dict of str to str
        Of the process.
    ranks : int
        Processes that share the job's training; with more than one torchrun starts them.
    """

    def __init__(self, root: Path, folder: Path, environment: dict[str, str], *, ranks: int = 1) -> None:
        self._folder = folder
        self._log: IO[bytes] = (folder / LOG).open("ab")
        program = [CHILD] if ranks == 1 else [_LAUNCHER, str(ranks)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", *program, str(root), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its children
        )

    @property
    def closed(self) -> bool:
        """True when it ended with all its processes."""
        return self._log.closed

    def poll(self) -> str | None:
        """See `Running`."""
        code = self._process.poll()
        if code is None:
            return None
        self.close()
        if code == 0:
            return ""
        if code > 0:
            return f"its process ended with exit code {code}{last_words(self._folder)}"
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"its process was killed by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}"

    def close(self) -> None:
        """See `Running`."""
        if self.closed:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def last_words(folder: Path) -> str:
    """Quote the last line of a job's log."""
    with suppress(OSError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its last words: {said[:_WORDS_LIMIT]}" if said else ""
    return ""
