"""The measurements of a job, and how its time is shared out: whatever is in doubt gets what the others leave.

Each task gets an equal share of the time first and ends as soon as its limits are decided. What is left then goes to
the tasks without a verdict, the most doubtful first, which go on where they stopped. The looks at the samples are
planned beforehand for all limits together, so that the probability that any interval of the job misses stays within
`ERROR`: each limit has an equal part of it (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

from backends.errors import BackendError, one_line
from benchmarks.answers.reference import Reference
from benchmarks.arm import PreparedArm
from benchmarks.comparison import compared
from benchmarks.errors import BenchmarkError
from benchmarks.machine.machine import Machine
from benchmarks.process.measured import Launch, MeasuredProcess
from benchmarks.records.measurement import Comparison, Cost, Measurement, Trial
from benchmarks.runner import Progress, compare, measure
from benchmarks.settings import Settings
from benchmarks.stats.group_sequential import InterimAnalyses, plan_analyses
from benchmarks.subject.subject import SubjectSpec
from deploy.ci.absolute import PERCENTILES, judge_alone, judge_trials
from deploy.ci.finding import Asked, Finding, not_judged
from deploy.ci.judging import judge_pair
from deploy.results.bench_grid import reference_of, saying_for

__all__ = [
    "ALONE",
    "ERROR",
    "FROM_ANY",
    "RELATIVE",
    "AloneTask",
    "PairTask",
    "Task",
    "Terms",
    "analyses_for",
    "share_out",
]

ERROR = 0.05
"""Probability that any interval of a job misses, at most."""

RELATIVE = ("slower", "more_memory")
"""Limits that want the baseline beside the model."""
FROM_ANY = ("load_ms", "memory_mb")
"""Limits that each measurement tells."""
ALONE = (*PERCENTILES, "throughput_per_s")
"""Limits that want the model alone."""

_PAIRS = 40
_LOOKS = 6
_TAIL_BLOCK_NS = 100_000_000
"""Of a block where a percentile beyond the median is asked for: it wants many calls."""
_LEAST_S = 1.0
"""In less no process is started and warmed up."""


def analyses_for(n_limits: int) -> InterimAnalyses:
    """Return when the pairs, or the processes, behind one of `n_limits` limits are looked at."""
    return plan_analyses(ERROR / n_limits, _PAIRS, _LOOKS)


class Task(Protocol):
    """One measurement that can go on where it stopped."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is known of its limits so far."""

    @property
    def open(self) -> bool:
        """Whether more time could bring a verdict."""

    @property
    def doubt(self) -> float:
        """How far it is from a verdict; infinite where nothing is known."""

    def go_on(self, budget_s: float) -> bool:
        """Measure for so long, or until it is decided; return whether anything was added."""

    def anew(self) -> None:
        """Forget what was measured: the machine was not fit."""

    def close(self) -> None:
        """Take the last look at what was measured."""


class Terms(NamedTuple):
    """What holds for every task of a job.

    Parameters
    ----------
    settings : Settings
        Without a budget of its own.
    n_limits : int
        That are estimated: they share the error.
    say : callable
        Receives one short line for each step.
    accept_unfit : bool
        Whether numbers of an unfit machine are believed.
    launch, machine
        See `benchmarks.runner.measure`.
    """

    settings: Settings
    n_limits: int
    say: Progress
    accept_unfit: bool = False
    launch: Launch = MeasuredProcess
    machine: Machine | None = None


@dataclass(eq=False, kw_only=True)
class PairTask:
    """A model and its baseline in turn.

    Parameters
    ----------
    asked : Asked
        Whose limits.
    candidate, baseline : SubjectSpec
        What is measured.
    costs : (Cost, Cost)
        Of the baseline and of the candidate.
    terms : Terms
        Of the job.
    """

    asked: Asked
    candidate: SubjectSpec
    baseline: SubjectSpec
    costs: tuple[Cost, Cost]
    terms: Terms
    settings: Settings = field(init=False)
    refused: str = field(default="", init=False)
    measured: Comparison | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.settings = replace(
            self.terms.settings,
            margin=self.asked.limits.slower or self.terms.settings.margin,
            analyses=analyses_for(self.terms.n_limits),
            provisional=True,
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `Task`."""
        if self.refused:
            return not_judged(self.asked.limits, self.refused, (*RELATIVE, *FROM_ANY))
        if self.measured is None:
            return ()
        rows = list(judge_pair(self.asked, self.measured, self.settings.analyses, accept_unfit=self.terms.accept_unfit))
        limits = self.asked.limits.model_copy(update={**dict.fromkeys(PERCENTILES), "throughput_per_s": None})
        candidate = self.measured.candidate
        rows += judge_alone(limits, candidate, self.settings.analyses, accept_unfit=self.terms.accept_unfit)
        return tuple(rows)

    @property
    def open(self) -> bool:
        """See `Task`."""
        if self.measured is None:
            return not self.refused
        undecided = self.measured.verdict == "inconclusive"
        return undecided and len(self.measured.log_ratios) < self.settings.analyses.max_pairs

    @property
    def doubt(self) -> float:
        """Width of the interval beside the margin."""
        speedup = None if self.measured is None else self.measured.speedup
        return math.inf if speedup is None else math.log(speedup.high / speedup.low) / self.settings.margin

    @cached_property
    def _references(self) -> tuple[Reference | None, Reference | None]:
        say = saying_for(self.candidate.backend, self.terms.say)
        return _reference(self.baseline, self.settings, say), _reference(self.candidate, self.settings, say)

    def go_on(self, budget_s: float) -> bool:
        """See `Task`."""
        before = 0 if self.measured is None else len(self.measured.log_ratios)
        try:
            self.measured = compare(
                self.candidate,
                self.baseline,
                candidate_reference=self._references[1],
                baseline_reference=self._references[0],
                settings=replace(self.settings, budget_s=budget_s),
                costs=self.costs,
                progress=saying_for(self.candidate.backend, self.terms.say),
                launch=self.terms.launch,
                machine=self.terms.machine,
                earlier=self.measured,
            )
        except (BackendError, BenchmarkError) as error:
            self.refused = one_line(error, limit=500)
            return False
        return len(self.measured.log_ratios) > before

    def anew(self) -> None:
        """See `Task`."""
        self.measured = None

    def close(self) -> None:
        """See `Task`."""
        if self.measured is not None and self.measured.verdict == "inconclusive":
            last = replace(self.settings, provisional=False, budget_s=self.measured.candidate.budget_s or 1.0)
            baseline, candidate = self.measured.sides
            self.measured = compared(baseline, candidate, self.costs, last, ended=self.measured.ended)


@dataclass(eq=False, kw_only=True)
class AloneTask:
    """A model by itself, as its users run it.

    Parameters
    ----------
    asked : Asked
        Whose limits.
    candidate : SubjectSpec
        What is measured.
    batch : int
        Examples of one call.
    terms : Terms
        Of the job.
    """

    asked: Asked
    candidate: SubjectSpec
    batch: int
    terms: Terms
    settings: Settings = field(init=False)
    analyses: InterimAnalyses = field(init=False)
    refused: str = field(default="", init=False)
    measured: Measurement | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        tail = any(share > 0.5 and getattr(self.asked.limits, limit) for limit, share in PERCENTILES.items())
        settings = self.terms.settings
        self.settings = replace(settings, block_ns=_TAIL_BLOCK_NS) if tail else settings
        self.analyses = analyses_for(self.terms.n_limits)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `Task`."""
        if self.refused:
            return not_judged(self.asked.limits, self.refused, (*ALONE, *FROM_ANY))
        return () if self.measured is None else self._judged(self.measured)

    @property
    def open(self) -> bool:
        """See `Task`."""
        if self.measured is None:
            return not self.refused
        return len(self.measured.trials) < self.analyses.max_pairs and self._in_doubt(self.measured)

    @property
    def doubt(self) -> float:
        """Largest width of an undecided interval beside its limit."""
        widths = [
            (one.high - one.low) / one.allowed if one.high is not None and one.low is not None else math.inf
            for one in self.findings
            if one.verdict == "inconclusive" and one.allowed
        ]
        return max(widths, default=math.inf if self.measured is None else 0.0)

    @cached_property
    def _reference(self) -> Reference | None:
        return _reference(self.candidate, self.settings, saying_for(self.candidate.backend, self.terms.say))

    def go_on(self, budget_s: float) -> bool:
        """See `Task`."""
        before = 0 if self.measured is None else len(self.measured.trials)
        try:
            self.measured = measure(
                self.candidate,
                reference=self._reference,
                settings=replace(self.settings, budget_s=budget_s),
                progress=saying_for(self.candidate.backend, self.terms.say),
                launch=self.terms.launch,
                machine=self.terms.machine,
                earlier=self.measured,
                until=self._until,
            )
        except (BackendError, BenchmarkError) as error:
            self.refused = one_line(error, limit=500)
            return False
        return len(self.measured.trials) > before

    def anew(self) -> None:
        """See `Task`."""
        self.measured = None

    def close(self) -> None:
        """See `Task`."""
        if self.measured is not None and self._in_doubt(self.measured):
            self.analyses = self.analyses.shortened(len(self.measured.trials)) or self.analyses

    def _judged(self, measured: Measurement) -> tuple[Finding, ...]:
        judged = judge_alone(self.asked.limits, measured, self.analyses, accept_unfit=self.terms.accept_unfit)
        return tuple(judged)

    def _in_doubt(self, measured: Measurement) -> bool:
        return any(one.verdict == "inconclusive" for one in self._judged(measured))

    def _until(self, trials: Sequence[Trial], spent: bool) -> str | None:
        n = len(trials)
        if spent and n > 0:
            return f"its share of the time ended after {n} processes"
        if n >= self.analyses.max_pairs:
            return f"{n} processes, the most that are started"
        if all(n != look for look, _ in self.analyses.schedule):
            return None
        judged = judge_trials(self.asked.limits, trials, self.batch, self.analyses)
        undecided = any(one.verdict == "inconclusive" for one in judged)
        return None if undecided else f"decided after {n} processes"


def share_out(tasks: Sequence[Task], deadline_s: float, now_s: Callable[[], float]) -> None:
    """Measure all tasks until they are decided or the time is over.

    Parameters
    ----------
    tasks : sequence of Task
        In the order of the check file.
    deadline_s : float
        On the clock of `now_s`.
    now_s : callable
        Seconds.
    """
    lost_s = 0.0

    def go_on(task: Task, share_s: float) -> bool:
        # What a task takes beside its budget, to get ready and to end its last process, is taken from it.
        nonlocal lost_s
        before_s, granted_s = now_s(), max(_LEAST_S, share_s - lost_s)
        added = task.go_on(granted_s)
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
            return
        task = max(doubtful, key=lambda one: one.doubt)
        if not go_on(task, left / len(doubtful)):
            exhausted.add(id(task))


def _reference(spec: SubjectSpec, settings: Settings, say: Progress) -> Reference | None:
    """Return the answers to made-up inputs, which a task that goes on needs each time; None: the runner has others."""
    if spec.given:
        return None
    if (reference := reference_of(spec.model)) is not None:
        return reference
    arm = PreparedArm.prepare(spec, None, None, settings, say)
    return arm.references[0] if len(arm.references) == 1 else None
