"""Share the time of a job among its tasks: undecided tasks get what the others leave over.

Each task first gets an equal share of the time and ends as soon as its limits are decided. The time left then goes to
the tasks without a verdict, the most doubtful first, which resume where they stopped. The clock of the job is paused
while it waits for another measurement on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from benchmarks.machine.machine import Machine, Observer
from benchmarks.runner import Progress
from deploy.ci.finding import Finding

__all__ = ["PatientMachine", "Task", "share_out"]

_LEAST_S = 1.0
"""Less is too short to start and warm up a process."""


class Task(Protocol):
    """One measurement that can resume where it stopped."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings on its limits so far."""

    @property
    def open(self) -> bool:
        """Whether more time could bring a verdict."""

    @property
    def doubt(self) -> float:
        """How far it is from a verdict; infinite if nothing is known."""

    def go_on(self, budget_s: float) -> bool:
        """Measure for `budget_s` seconds or until decided; return whether anything was added."""

    def anew(self) -> None:
        """Discard what was measured: the machine was unfit."""

    def close(self) -> None:
        """Take the last look at the samples."""


class PatientMachine:
    """A machine whose clock is paused while another measurement holds it; implements `Machine`.

    Parameters
    ----------
    machine : Machine
        The machine to wrap.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waited_s = 0.0

    def now_s(self) -> float:
        """Return seconds since an arbitrary start, excluding waiting."""
        return self._machine.now_s() - self._waited_s

    @contextmanager
    def measuring(self, purpose: str, say: Progress) -> Iterator[Observer]:
        """Exclude other measurements, and observe; see `Machine`."""
        began_s, waits = self._machine.now_s(), False

        def told(line: str) -> None:
            nonlocal waits
            waits = True
            say(line)

        with ExitStack() as stack:
            try:
                observer = stack.enter_context(self._machine.measuring(purpose, told))
            finally:
                if waits:
                    self._waited_s += self._machine.now_s() - began_s
            yield observer


def share_out(
    tasks: Sequence[Task], deadline_s: float, now_s: Callable[[], float], after_each: Callable[[], object]
) -> bool:
    """Measure all tasks until they are decided or time is up.

    Parameters
    ----------
    tasks : sequence of Task
        In the order of the check file.
    deadline_s : float
        End of the time, on the clock of `now_s`.
    now_s : callable
        Returns the time in seconds.
    after_each : callable
        Called when a task has used its share.

    Returns
    -------
    bool
        Whether anything was measured.
    """
    lost_s, anything = 0.0, False

    def go_on(task: Task, share_s: float) -> bool:
        # The time a task takes beyond its budget, to prepare and to end its last process, is deducted from it.
        nonlocal lost_s, anything
        before_s, granted_s = now_s(), max(_LEAST_S, share_s - lost_s)
        added = task.go_on(granted_s)
        anything = anything or added
        after_each()
        lost_s = max(lost_s, now_s() - before_s - granted_s)
        return added

    fresh = [task for task in tasks if not task.findings]
    others = sum(task.open for task in tasks if task.findings)
    for index, task in enumerate(fresh):
        go_on(task, (deadline_s - now_s()) / (len(fresh) - index + others))
    exhausted: set[int] = set()
    while (left := deadline_s - now_s()) > _LEAST_S:
        doubtful = [task for task in tasks if task.open and id(task) not in exhausted]
        if not doubtful:
            break
        task = max(doubtful, key=lambda one: one.doubt)
        if not go_on(task, left / len(doubtful)):
            exhausted.add(id(task))
    return anything
