"""Executors that run the jobs of a study: local processes here, and the protocol for others.

A job gets its own GPUs if there are any. If it gets several, its training runs on all of them: torchrun starts one
process for each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.machine.environment import cores_available
from benchmarks.process.child import sleeping_environment
from deploy.studies.engine.process import JobProcess
from deploy.studies.engine.schedule import RunningJob
from deploy.studies.methods.gpus import gpu_environment

__all__ = ["CHILD", "LAUNCHER", "LOG", "Executor", "LocalProcesses", "child_environment", "start_job"]

CHILD = "deploy.studies.methods.child"
LAUNCHER = "deploy.studies.methods.launcher"
LOG = "log.txt"


class Executor(Protocol):
    """Starts jobs.

    A job shares only the folder of the study with its starter; another machine needs it under the same path.
    """

    slots: int
    """Jobs that may run at the same time."""

    processes: int
    """Processes that share a job's training."""

    remote: bool
    """Whether jobs run on other machines than this one, where speed is measured."""

    def start(self, root: Path, folder: Path) -> RunningJob:
        """Start the job in `folder`, inside the folder `root` of the study."""


def child_environment(slots: int, processes: int = 1) -> dict[str, str]:
    """Return the environment of a job if `slots` jobs with `processes` processes each share this machine."""
    threads = str(max(1, cores_available() // (slots * processes)))
    # If processes share cores, OpenMP threads that spin while waiting slow down the ones they wait for.
    return {"OMP_NUM_THREADS": os.getenv("OMP_NUM_THREADS", threads), **sleeping_environment()}


class LocalProcesses:
    """Runs each job in a process on this machine; the processes die with this one.

    Parameters
    ----------
    slots : int
        Jobs at the same time; they share the cores evenly unless ``OMP_NUM_THREADS`` is set.
    processes : int
        Processes that share a job's training, each on its own GPU if there are any.
    gpus : sequence of str
        GPUs that the jobs share, as named in ``CUDA_VISIBLE_DEVICES``: each slot gets `processes` of them, in turn.
    """

    remote = False

    def __init__(self, slots: int = 1, *, processes: int = 1, gpus: Sequence[str] = ()) -> None:
        self.slots = slots
        self.processes = processes
        self._gpus = tuple(gpus)
        self._environment = child_environment(slots, processes)
        self._started: list[tuple[int, JobProcess]] = []

    def start(self, root: Path, folder: Path) -> RunningJob:
        """Start the child; its output goes to the log in the job's folder."""
        self._started = [(slot, child) for slot, child in self._started if not child.closed]
        slot = min(set(range(len(self._started) + 1)) - {slot for slot, _ in self._started})
        own = gpu_environment(self._gpus, slot, self.processes)
        child = start_job(root, folder, {**self._environment, **own}, processes=self.processes)
        self._started.append((slot, child))
        return child


def start_job(root: Path, folder: Path, environment: Mapping[str, str], *, processes: int = 1) -> JobProcess:
    """Start the job in `folder`, inside the folder `root` of the study, on this machine.

    Parameters
    ----------
    environment : Mapping of str to str
        Variables of the process.
    processes : int
        Processes that share the job's training; torchrun starts them if there are several.
    """
    program = [CHILD] if processes == 1 else [LAUNCHER, str(processes)]
    return JobProcess([*program, str(root), str(folder)], log=folder / LOG, environment=environment)
