"""Run the missing jobs, several at once; each leaves a row, whatever happens to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol, TypeVar

__all__ = ["RunningJob", "run_jobs"]

_POLL_S = 0.1


class RunningJob(Protocol):
    """A running job."""

    def poll(self) -> str | None:
        """Return None while it runs, then why it ended without a row; empty if it ended normally."""

    def close(self) -> None:
        """Kill all its processes and clean up after it; a second call does nothing."""


Job = TypeVar("Job")
Row = TypeVar("Row")
Running = TypeVar("Running", bound=RunningJob)


def run_jobs(
    jobs: Sequence[Job],
    start: Callable[[Job], Running],
    collect: Callable[[Job, Running, str], Row],
    done: Callable[[Job, Row], None],
    *,
    slots: int,
    ready: Callable[[Job], bool] = lambda _: True,
    skip: Callable[[Job], Row | None] = lambda _: None,
    fit: Callable[[Sequence[Job]], bool] = lambda _: True,
) -> None:
    """Run all `jobs`, those at the front first.

    A failed job does not stop the others. Jobs still running when this function exits, for any reason, are killed.

    Parameters
    ----------
    start : callable
        Starts a job.
    collect : callable
        ``collect(job, running, reason)`` returns the row of a job that ended, for its `reason`.
    done : callable
        ``done(job, row)`` is called after each job.
    slots : int
        Maximum number of jobs at the same time.
    ready : callable
        Whether a job can be started yet.
    skip : callable
        The row of a job that can never be started; None otherwise.
    fit : callable
        Whether these jobs may run at the same time; a single job always may.
    """
    waiting = list(jobs)
    running: list[tuple[Job, Running]] = []

    def startable(job: Job) -> bool:
        together = [job, *(other for other, _ in running)]
        return len(running) < slots and ready(job) and (not running or fit(together))

    with ExitStack() as stack:
        while waiting or running:
            for job in list(waiting):
                if (row := skip(job)) is not None:
                    waiting.remove(job)
                    done(job, row)
                elif startable(job):
                    waiting.remove(job)
                    process = start(job)
                    stack.callback(process.close)
                    running.append((job, process))
            time.sleep(_POLL_S)
            for job, process in list(running):
                if (reason := process.poll()) is not None:
                    running.remove((job, process))
                    row = collect(job, process, reason)
                    process.close()
                    done(job, row)
