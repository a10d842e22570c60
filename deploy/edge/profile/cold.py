"""Cold start: time from nothing to the first answer, in fresh processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from benchmarks.arm import PreparedArm
from benchmarks.process.measured import Launch, MeasuredProcess
from deploy.edge.profile.record import ColdStart

__all__ = ["cold_starts"]

_STARTS = 5


def cold_starts(
    arm: PreparedArm,
    *,
    timeout_s: float,
    budget_s: float = math.inf,
    number: int = _STARTS,
    launch: Launch = MeasuredProcess,
    clock: Callable[[], int] = time.monotonic_ns,
) -> tuple[ColdStart, ...]:
    """Start a model several times; from the second time on its file is in the page cache, as after a restart.

    Parameters
    ----------
    arm : PreparedArm
        The prepared model.
    timeout_s : float
        Time limit in seconds for each answer of a process.
    budget_s : float, optional
        Seconds after which no more processes are started; the first one always is.
    number : int, default=5
        Maximum number of processes.
    launch, clock
        Start a process; return the time in nanoseconds.

    Raises
    ------
    WorkerError
        The model cannot be compiled, or a process died or hung.
    """
    starts: list[ColdStart] = []
    first_ns = clock()
    while len(starts) < number:
        begin_ns = clock()
        if starts and begin_ns - first_ns > 1e9 * budget_s:
            break
        worker = launch(arm.spec, timeout_s=timeout_s)
        try:
            loaded = worker.load(arm.feeds, arm.others)
            total_ns = clock() - begin_ns
        finally:
            worker.close()
        known_ns = loaded.import_ns + loaded.load_ns + loaded.first_run_ns
        starts.append(
            ColdStart(
                label=arm.subject.label,
                process_ns=max(0, total_ns - known_ns),
                import_ns=loaded.import_ns,
                load_ns=loaded.load_ns,
                first_run_ns=loaded.first_run_ns,
            )
        )
    return tuple(starts)
