"""Where the jobs of a study run: in processes of this machine, or wherever another executor takes them.

A job gets its own GPUs where there are any. Where it gets several, its training runs on all of them: torchrun starts
one process for each.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from benchmarks.machine.environment import cores_available
from benchmarks.process.child import package_environment
from deploy.studies.methods.gpus import gpu_environment

__all__ = [
    "CHILD",
    "LOG",
    "ChildProcess",
    "Executor",
    "LocalProcesses",
    "Running",
    "child_environment",
    "last_words",
]

CHILD = "deploy.studies.methods.child"
_LAUNCHER = "deploy.studies.methods.launcher"
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

    processes: int
    """Processes that share a job's training."""

    def start(self, root: Path, folder: Path) -> Running:
        """Start the job that lies in `folder`, inside the folder `root` of the study."""


def child_environment(slots: int, processes: int = 1) -> dict[str, str]:
    """Give the environment of a job where so many share this machine, each with so many processes."""
    threads = str(max(1, cores_available() // (slots * processes)))
    # OpenMP threads that wait by spinning hold up the ones they wait for where processes share cores.
    return {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", **package_environment()}


class LocalProcesses:
    """One process for each job, on this machine; they die with this process, however it ends.

    Parameters
    ----------
    slots : int
        Jobs at the same time; they share the cores evenly, unless ``OMP_NUM_THREADS`` is set.
    processes : int
        Processes that share a job's training, each on a GPU of its own where there are any.
    gpus : sequence of str
        What the jobs share, as ``CUDA_VISIBLE_DEVICES`` names them: each slot has `processes` of them, in turn.
    """

    def __init__(self, slots: int = 1, *, processes: int = 1, gpus: Sequence[str] = ()) -> None:
        self.slots = slots
        self.processes = processes
        self._gpus = tuple(gpus)
        self._environment = child_environment(slots, processes)
        self._started: list[tuple[int, ChildProcess]] = []

    def start(self, root: Path, folder: Path) -> Running:
        """Start the child; what it says goes to the log in the job's folder."""
        self._started = [(slot, child) for slot, child in self._started if not child.closed]
        slot = min(set(range(len(self._started) + 1)) - {slot for slot, _ in self._started})
        own = gpu_environment(self._gpus, slot, self.processes)
        child = ChildProcess(root, folder, {**self._environment, **own}, processes=self.processes)
        self._started.append((slot, child))
        return child


class ChildProcess:
    """The process of one job, and its log.

    Parameters
    ----------
    root, folder : Path
        Of the study, and of the job in it.
    environment : dict of str to str
        Of the process.
    processes : int
        Processes that share the job's training; with more than one torchrun starts them.
    """

    def __init__(self, root: Path, folder: Path, environment: dict[str, str], *, processes: int = 1) -> None:
        self._folder = folder
        self._log: IO[bytes] = (folder / LOG).open("ab")
        program = [CHILD] if processes == 1 else [_LAUNCHER, str(processes)]
        # Not in the job's folder: names of sockets, which some libraries make there, may be short only.
        self._temporary = tempfile.mkdtemp(prefix="prune-deploy-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *program, str(root), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            # A launcher hands on no -P.
            env={**environment, "TMPDIR": self._temporary, "PYTHONSAFEPATH": "1"},
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
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._log.close()


def last_words(folder: Path) -> str:
    """Quote the last line of a job's log."""
    with suppress(OSError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its last words: {said[:_WORDS_LIMIT]}" if said else ""
    return ""
