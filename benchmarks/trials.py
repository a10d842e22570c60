"""Schedule of the measured processes: fresh ones for each trial, run in alternating blocks until the answer is known.

A trial is one fresh process of one model. With two models, trials come in pairs: both processes are alive, and their
blocks alternate in balanced random order while the other one rests, so that disturbances hit both alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypedDict

from benchmarks.arm import PreparedArm
from benchmarks.errors import RandomAnswersError, WorkerError, WrongAnswersError
from benchmarks.journal import Begun, Journal
from benchmarks.machine.energy import EnergyMeter
from benchmarks.machine.machine import Machine, Observer
from benchmarks.process.cold_start import cold_costs
from benchmarks.process.measured import Launch, Loaded, MeasuredWorker, Warm
from benchmarks.records.measurement import Cost, Environment, Measurement, Trial
from benchmarks.settings import NOT_A_VERDICT, Settings, plan_blocks

__all__ = ["Enough", "Schedule"]

_KEYS = ("baseline", "candidate")

Enough = Callable[[bool], str | None]
"""Returns in words why no further trial is needed, else None. The argument tells whether the budget is spent."""


class Schedule:
    """Runs the trials of one or two arms, and continues with those that still work.

    Parameters
    ----------
    arms : sequence of PreparedArm
        One, or the baseline and the candidate.
    settings : Settings
        How long and how often to measure.
    say : callable
        Receives one short line for each step.
    launch : Launch
        How a measured process is started.
    machine : Machine
        Its clock and lock.
    journal : Journal or None
        Receives each trial as it ends.
    costs : sequence of Cost
        Costs of the arms, for the journal; empty if there are none.
    """

    def __init__(
        self,
        arms: Sequence[PreparedArm],
        settings: Settings,
        say: Callable[[str], None],
        launch: Launch,
        machine: Machine,
        journal: Journal | None = None,
        costs: Sequence[Cost] = (),
    ) -> None:
        self._arms = arms
        self._settings = settings
        self._say = say
        self._launch = launch
        self._machine = machine
        self._journal = journal
        self._costs = costs
        before = [trial.order for arm in arms for trial in arm.trials]
        self._n_launched = max(before, default=-1) + 1
        # A continued measurement must not repeat the orders of the earlier one.
        self._rng = random.Random(settings.seed if not before else f"{settings.seed} after {len(before)}")

    def run(self, enough: Enough) -> list[Measurement]:
        """Measure until `enough` returns a reason; return one record per arm, in order."""
        names = " and ".join(arm.subject.label for arm in self._arms)
        backends = " and ".join(dict.fromkeys(arm.subject.backend for arm in self._arms))
        with self._machine.measuring(f"{names} on {backends}", self._say) as observer:
            started_utc = datetime.now(UTC).isoformat(timespec="seconds")
            self._begin_journal(observer.environment(gpu=self._took_part()["gpu"]), started_utc)
            ended = self._trials(enough, observer)
            if self._settings.cold:
                self._measure_cold()
            conditions = observer.finish(**self._took_part())
        return [
            arm.measurement(
                conditions,
                seed=self._settings.seed,
                budget_s=self._settings.budget_s,
                ended=ended,
                started_utc=started_utc,
                caveats=[NOT_A_VERDICT] if self._settings.fast else [],
            )
            for arm in self._arms
        ]

    def _took_part(self) -> _TookPart:
        return {
            "versions": {arm.spec.backend: arm.backend_version for arm in self._arms if arm.backend_version},
            "gpu": any(arm.spec.options.device != "cpu" for arm in self._arms),
            "threads": max(arm.spec.options.threads for arm in self._arms),
        }

    def _trials(self, enough: Enough, observer: Observer) -> str:
        deadline_s = self._machine.now_s() + self._settings.budget_s
        trial_s = 0.0
        while active := [arm for arm in self._arms if arm.failure is None]:
            # Do not start a trial that would end after the budget.
            now_s = self._machine.now_s()
            if (ended := enough(now_s + trial_s > deadline_s)) is not None:
                return ended
            number = len(active[0].trials) + 1
            total = f" of {self._settings.trials}"
            if self._settings.trials is None:
                total = f", at most {max(0.0, deadline_s - now_s):.0f} s left"
            names = " and ".join(arm.subject.label for arm in active)
            self._say(f"trial {number}{total}: {names} on {active[0].subject.backend}")
            start_s = self._machine.now_s()
            try:
                done = self._trial(active, observer)
            except _ArmFailedError:
                continue  # the same trial again, without the arm that failed
            trial_s = self._machine.now_s() - start_s
            for arm, record in zip(active, done, strict=True):
                arm.trials.append(record)
                if self._journal is not None:
                    self._journal.checked(self._key(arm), arm.agreement, arm.backend_version)
                    self._journal.trial(self._key(arm), record)
            observer.between_trials()
            if self._journal is not None:
                self._journal.conditions(observer.so_far(**self._took_part()))
        return "every model failed"

    def _measure_cold(self) -> None:
        for arm in self._arms:
            if arm.failure is None:
                with suppress(_ArmFailedError), self._blaming(arm):
                    arm.cold = cold_costs(arm.spec, timeout_s=self._settings.timeout_s, say=self._say)

    def _begin_journal(self, environment: Environment, started_utc: str) -> None:
        if self._journal is None:
            return
        for index, arm in enumerate(self._arms):
            begun = Begun(
                subject=arm.subject,
                environment=environment,
                cost=self._costs[index] if self._costs else None,
                margin=self._settings.margin,
                seed=self._settings.seed,
                started_utc=started_utc,
                fast=self._settings.fast,
            )
            self._journal.begin(self._key(arm), begun)
            if arm.failure is not None:
                self._journal.failure(self._key(arm), arm.failure, arm.failure_kind or "")

    def _trial(self, active: Sequence[PreparedArm], observer: Observer) -> list[Trial]:
        with ExitStack() as stack:
            live: dict[int, _Live] = {}
            for index in self._shuffled(len(active)):
                live[index] = self._start(active[index], stack, observer)
            ordered = [live[index] for index in range(len(active))]
            plan = plan_blocks([one.warm.latency_ns for one in ordered], self._settings)
            for order in self._balanced_orders(plan.rounds, len(active)):
                for index in order:
                    one = ordered[index]
                    with self._blaming(one.arm):
                        one.worker.wake()
                        one.block(plan.calls[index], plan.dropped[index], observer.energy())
                        one.worker.rest()
            observer.look()
            trials = []
            for one in ordered:
                with self._blaming(one.arm):
                    one.worker.wake()
                    trials.append(one.trial())
            return trials

    def _start(self, arm: PreparedArm, stack: ExitStack, observer: Observer) -> _Live:
        with self._blaming(arm):
            worker = self._launch(
                arm.spec, timeout_s=self._settings.timeout_s, call_timeout_s=self._settings.call_timeout_s
            )
            stack.callback(worker.close)
            observer.follow(worker.pid)
            order, self._n_launched = self._n_launched, self._n_launched + 1
            loaded = worker.load(arm.feeds, arm.others)
            arm.backend_version = loaded.backend_version
            arm.verify(worker)
            warm = worker.warm_up(self._settings.warm_up)
            worker.rest()
            return _Live(arm, worker, order, loaded, warm)

    def _shuffled(self, n: int) -> list[int]:
        return self._rng.sample(range(n), n)

    def _balanced_orders(self, rounds: int, n: int) -> list[list[int]]:
        """Return random orders, each as often as its mirror image (one more if the number is odd)."""
        orders: list[list[int]] = []
        for _ in range(math.ceil(rounds / 2)):
            order = self._shuffled(n)
            orders += [order, order[::-1]]
        self._rng.shuffle(orders)
        return orders[:rounds]

    @contextmanager
    def _blaming(self, arm: PreparedArm) -> Iterator[None]:
        try:
            yield
        except WorkerError as error:
            self._fail(arm, error, error.kind)
            raise _ArmFailedError from error
        except (WrongAnswersError, RandomAnswersError) as error:
            self._fail(arm, error, type(error).__name__)
            raise _ArmFailedError from error

    def _fail(self, arm: PreparedArm, error: Exception, kind: str) -> None:
        arm.fail(error, kind)
        self._say(f"{arm.subject.label}: failed: {arm.failure}")
        if self._journal is not None:
            self._journal.failure(self._key(arm), arm.failure or "", kind)

    def _key(self, arm: PreparedArm) -> str:
        # Two labels may be equal.
        return _KEYS[self._arms.index(arm)]


@dataclass
class _Live:
    """One process of a running trial."""

    arm: PreparedArm
    worker: MeasuredWorker
    order: int
    loaded: Loaded
    warm: Warm
    blocks: list[tuple[int, ...]] = field(default_factory=list)
    energy_uj: int | None = None
    energy_calls: int = 0

    def block(self, n_calls: int, n_dropped: int, meter: EnergyMeter | None) -> None:
        """Run one block of calls, and add up its energy if that is measured."""
        if meter is None:
            self.blocks.append(self.worker.block(n_calls, n_dropped))
            return
        meter.start()
        try:
            self.blocks.append(self.worker.block(n_calls, n_dropped))
        finally:
            used_uj = meter.stop()
        if used_uj is not None:
            self.energy_uj = (self.energy_uj or 0) + used_uj
            self.energy_calls += n_calls + n_dropped

    def trial(self) -> Trial:
        closing = self.worker.finish()
        return Trial(
            order=self.order,
            import_ns=self.loaded.import_ns,
            load_ns=self.loaded.load_ns,
            first_run_ns=self.loaded.first_run_ns,
            warmup_ns=self.warm.calls_ns,
            warmup_calls=self.warm.n_calls,
            warmup_total_ns=self.warm.total_ns,
            warmup_ended=self.warm.ended,
            blocks_ns=tuple(self.blocks),
            cpu_ns=closing.cpu_ns,
            involuntary_switches=closing.involuntary_switches,
            energy_uj=self.energy_uj,
            energy_calls=self.energy_calls,
            memory=closing.memory,
            executed_precision=self.loaded.executed_precision,
            properties=self.loaded.properties,
        )


class _TookPart(TypedDict):
    versions: dict[str, str]
    gpu: bool
    threads: int


class _ArmFailedError(Exception):
    """One arm of a trial failed; the reason is stored in the arm."""
