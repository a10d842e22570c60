"""Measurements of a job as tasks that can resume where they stopped; `deploy.ci.budget` gives them their time.

The looks at the samples are planned in advance for all limits together, so that the probability that any interval of
the job misses stays within `ERROR`: each limit gets an equal part of it (Bonferroni). The end of a time share is not a
look: a task stops early only at a planned one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Generic, NamedTuple, TypeVar

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
from deploy.ci.check_file import Limits
from deploy.ci.finding import MOST, Asked, Finding, not_judged
from deploy.ci.judging import judge_memory, judge_pair
from deploy.results.bench_grid import reference_of, saying_for

__all__ = [
    "ALONE",
    "ERROR",
    "FROM_ANY",
    "RELATIVE",
    "AloneTask",
    "PairTask",
    "Terms",
    "analyses_for",
]

ERROR = 0.05
"""Maximum probability that any interval of a job misses."""

RELATIVE = ("slower", "more_memory")
"""Limits that need the model and its baseline measured together."""
FROM_ANY = ("load_ms", "memory_mb")
"""Limits that any measurement can judge."""
ALONE = (*PERCENTILES, "throughput_per_s")
"""Limits that need the model measured alone."""

_LOOKS = 6
_TAIL_BLOCK_NS = 100_000_000
"""Block length if a percentile above the median is limited, which needs many calls."""


def analyses_for(n_limits: int) -> InterimAnalyses:
    """Return the schedule of looks at the pairs, or processes, behind one of `n_limits` limits."""
    return plan_analyses(ERROR / n_limits, MOST, _LOOKS)


Kind = TypeVar("Kind", Comparison, Measurement)


class Terms(NamedTuple):
    """Terms shared by every task of a job.

    Parameters
    ----------
    settings : Settings
        Settings without their own budget.
    n_limits : int
        Number of estimated limits, which share the error.
    say : callable
        Called with one short line for each step.
    accept_unfit : bool
        Whether to accept the numbers of an unfit machine.
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
class _OneTask(ABC, Generic[Kind]):
    """Base of both kinds of task; see `deploy.ci.budget.Task`."""

    names: ClassVar[tuple[str, ...]]
    """Names of the limits that it can judge."""

    asked: Asked
    candidate: SubjectSpec
    terms: Terms
    settings: Settings = field(init=False)
    analyses: InterimAnalyses = field(init=False)
    refused: str = field(default="", init=False)
    measured: Kind | None = field(default=None, init=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """See `Task`."""
        if self.refused:
            return not_judged(self.asked.limits, self.refused, self.names)
        return () if self.measured is None else tuple(self._judged(self.measured))

    def go_on(self, budget_s: float) -> bool:
        """See `Task`."""
        before = self._n
        try:
            self.measured = self._gone_on(replace(self.settings, budget_s=budget_s))
        except (BackendError, BenchmarkError) as error:
            self.refused = one_line(error, limit=500)
        return self._n > before

    def anew(self) -> None:
        """See `Task`."""
        self.measured = None

    @cached_property
    def _say(self) -> Progress:
        return saying_for(self.candidate.backend, self.terms.say)

    @property
    def _n(self) -> int:
        """Number of pairs, or processes, so far."""
        if self.measured is None:
            return 0
        return len(self.measured.log_ratios if isinstance(self.measured, Comparison) else self.measured.trials)

    @abstractmethod
    def _gone_on(self, settings: Settings) -> Kind:
        """Resume the measurement where it stopped."""

    @abstractmethod
    def _judged(self, measured: Kind) -> Iterable[Finding]:
        """Judge its limits."""


@dataclass(eq=False, kw_only=True)
class PairTask(_OneTask[Comparison]):
    """Measurement of a model and its baseline in turn.

    Parameters
    ----------
    asked : Asked
        The model and its limits.
    candidate, baseline : SubjectSpec
        What to measure.
    costs : (Cost, Cost)
        Costs of the baseline and of the candidate.
    terms : Terms
        Terms of the job.
    """

    names = (*RELATIVE, *FROM_ANY)

    baseline: SubjectSpec
    costs: tuple[Cost, Cost]

    def __post_init__(self) -> None:
        self.settings = replace(
            self.terms.settings,
            margin=self.asked.limits.slower or self.terms.settings.margin,
            analyses=analyses_for(self.terms.n_limits),
            provisional=True,
        )
        self.analyses = self.settings.analyses

    @property
    def open(self) -> bool:
        """See `Task`."""
        if self.measured is None:
            return not self.refused
        if self.measured.verdict == "inconclusive":
            return self._n < self.settings.analyses.max_pairs
        trials = [side.trials for side in self.measured.sides]
        return self.measured.verdict != "failed" and self._wants_more(trials[0], trials[1])

    @property
    def doubt(self) -> float:
        """Width of the interval relative to the margin; once the speed is decided, that of the other limits."""
        if self.measured is not None and self.measured.verdict != "inconclusive":
            return _widest(self.findings)
        speedup = None if self.measured is None else self.measured.speedup
        return math.inf if speedup is None else math.log(speedup.high / speedup.low) / self.settings.margin

    @cached_property
    def _absolute(self) -> Limits:
        return self.asked.limits.model_copy(update={**dict.fromkeys(PERCENTILES), "throughput_per_s": None})

    def _wants_more(self, baseline: Sequence[Trial], candidate: Sequence[Trial]) -> bool:
        """Return whether a limit other than speed is undecided and looks are left."""
        analyses, allowed = self.settings.analyses, self.asked.limits.more_memory

        def judged() -> Iterator[Finding]:
            yield from judge_trials(self._absolute, candidate, 1, analyses)
            if allowed is not None and len(baseline) == len(candidate):
                yield judge_memory(allowed, baseline, candidate, analyses)

        return len(candidate) < analyses.max_pairs and _any_in_doubt(judged())

    @cached_property
    def _references(self) -> tuple[Reference | None, Reference | None]:
        return _reference(self.baseline, self.settings, self._say), _reference(self.candidate, self.settings, self._say)

    def _gone_on(self, settings: Settings) -> Comparison:
        return compare(
            self.candidate,
            self.baseline,
            candidate_reference=self._references[1],
            baseline_reference=self._references[0],
            settings=settings,
            costs=self.costs,
            progress=self._say,
            launch=self.terms.launch,
            machine=self.terms.machine,
            earlier=self.measured,
            wanted=self._wants_more,
        )

    def _judged(self, measured: Comparison) -> Iterator[Finding]:
        yield from judge_pair(self.asked, measured, self.analyses, accept_unfit=self.terms.accept_unfit)
        candidate = measured.candidate
        yield from judge_alone(self._absolute, candidate, self.analyses, accept_unfit=self.terms.accept_unfit)

    def close(self) -> None:
        """See `Task`."""
        if self.measured is not None and _any_in_doubt(self.findings):
            self.analyses = self.analyses.shortened(len(self.measured.candidate.trials)) or self.analyses
        if self.measured is not None and self.measured.verdict == "inconclusive":
            last = replace(self.settings, provisional=False, budget_s=self.measured.candidate.budget_s or 1.0)
            baseline, candidate = self.measured.sides
            self.measured = compared(baseline, candidate, self.costs, last, ended=self.measured.ended)


@dataclass(eq=False, kw_only=True)
class AloneTask(_OneTask[Measurement]):
    """Measurement of a model alone, as its users run it.

    Parameters
    ----------
    asked : Asked
        The model and its limits.
    candidate : SubjectSpec
        What to measure.
    batch : int
        Examples of one call.
    terms : Terms
        Terms of the job.
    """

    names = (*ALONE, *FROM_ANY)

    batch: int

    def __post_init__(self) -> None:
        tail = any(share > 0.5 and getattr(self.asked.limits, limit) for limit, share in PERCENTILES.items())
        settings = self.terms.settings
        self.settings = replace(settings, block_ns=_TAIL_BLOCK_NS) if tail else settings
        self.analyses = analyses_for(self.terms.n_limits)

    @property
    def open(self) -> bool:
        """See `Task`."""
        if self.measured is None:
            return not self.refused
        looked_at = max((look for look, _ in self.analyses.schedule if look <= self._n), default=0)
        seen = self.measured.model_copy(update={"trials": self.measured.trials[:looked_at]})
        more = self._n < self.analyses.max_pairs and self.measured.failure is None
        return more and _any_in_doubt(self._judged(seen))

    @property
    def doubt(self) -> float:
        """Largest width of an undecided interval relative to its limit."""
        return math.inf if self.measured is None else _widest(self.findings)

    @cached_property
    def _reference(self) -> Reference | None:
        return _reference(self.candidate, self.settings, self._say)

    def _gone_on(self, settings: Settings) -> Measurement:
        return measure(
            self.candidate,
            reference=self._reference,
            settings=settings,
            progress=self._say,
            launch=self.terms.launch,
            machine=self.terms.machine,
            earlier=self.measured,
            until=self._until,
        )

    def close(self) -> None:
        """See `Task`."""
        if _any_in_doubt(self.findings):
            self.analyses = self.analyses.shortened(self._n) or self.analyses

    def _judged(self, measured: Measurement) -> Iterable[Finding]:
        return judge_alone(self.asked.limits, measured, self.analyses, accept_unfit=self.terms.accept_unfit)

    def _until(self, trials: Sequence[Trial], spent: bool) -> str | None:
        n = len(trials)
        if spent and n > 0:
            return f"its share of the time ended after {n} processes"
        if n >= self.analyses.max_pairs:
            return f"{n} processes, the most that are started"
        if all(n != look for look, _ in self.analyses.schedule):
            return None
        undecided = _any_in_doubt(judge_trials(self.asked.limits, trials, self.batch, self.analyses))
        return None if undecided else f"decided after {n} processes"


def _any_in_doubt(findings: Iterable[Finding]) -> bool:
    return any(one.verdict == "inconclusive" for one in findings)


def _widest(findings: Iterable[Finding]) -> float:
    """Return the largest width of an undecided interval relative to its limit; infinite if one has no interval."""
    widths = [
        (one.high - one.low) / one.allowed if one.high is not None and one.low is not None and one.allowed else math.inf
        for one in findings
        if one.verdict == "inconclusive"
    ]
    return max(widths, default=0.0)


def _reference(spec: SubjectSpec, settings: Settings, say: Progress) -> Reference | None:
    """Return the outputs on generated inputs, which a resumed task needs each time; None if the runner has others."""
    if spec.given:
        return None
    if (reference := reference_of(spec.model)) is not None:
        return reference
    arm = PreparedArm.prepare(spec, None, None, settings, say)
    return arm.references[0] if len(arm.references) == 1 else None
