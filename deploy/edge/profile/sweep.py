"""Sweep over settings: each in turn, one fresh process at a time, repeated until the budget ends.

Each pass goes through all settings, so that drift of the machine over time affects them equally.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.arm import PreparedArm
from benchmarks.errors import RandomAnswersError, WorkerError, WrongAnswersError
from benchmarks.machine.energy import EnergyMeter
from benchmarks.process.measured import Launch, MeasuredProcess
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.settings import Settings, plan_blocks
from deploy.edge.profile.record import Point, SweepTrial, Swept

__all__ = ["PASSES", "Candidate", "SweepResult", "sweep"]

PASSES = 5
"""Most processes of each model at each setting."""
_WARM_UP = WarmUpLimits(min_ns=50_000_000, max_ns=1_000_000_000)
_BLOCKS = Settings(rounds=3, budget_s=8.0, block_ns=30_000_000)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting and the models prepared at it, ready to measure."""

    point: Point
    arms: tuple[PreparedArm, ...]


class SweepResult(NamedTuple):
    """Measurements, and the settings that did not fit in the budget."""

    swept: tuple[Swept, ...]
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Gathered:
    """Results so far of one model at one setting."""

    arm: PreparedArm
    trials: list[SweepTrial] = field(default_factory=list)
    failure: str | None = None


def sweep(
    candidates: Sequence[Candidate],
    budget_s: float,
    *,
    timeout_s: float,
    passes: int = PASSES,
    meter: EnergyMeter | None = None,
    say: Callable[[str], None] = lambda _: None,
    launch: Launch = MeasuredProcess,
    clock: Callable[[], float] = time.monotonic,
) -> SweepResult:
    """Measure settings until each has had all its passes, or the budget ends.

    Parameters
    ----------
    candidates : sequence of Candidate
        Settings, most informative first.
    budget_s : float
        Seconds; a setting not expected to finish within them is not started. The first always is.
    timeout_s : float
        Time limit in seconds for each answer of a process.
    passes : int, default=5
        Most processes of each model at each setting.
    meter : EnergyMeter, optional
        Counts energy; None if nothing does.
    say : callable
        Receives one short line for each setting.
    launch, clock
        Start a process; return the time in seconds.
    """
    gathered = {index: [_Gathered(arm) for arm in one.arms] for index, one in enumerate(candidates)}
    took_s: dict[int, float] = {}
    deadline_s, skipped = clock() + budget_s, set[int]()
    for number in range(passes):
        skipped = set()
        for index, one in enumerate(candidates):
            expected_s = took_s.get(index, max(took_s.values(), default=0.0))
            if clock() + expected_s > deadline_s and (index or number):
                skipped.add(index)
                continue
            say(f"settings, pass {number + 1} of {passes}: {one.point.title}")
            begin_s = clock()
            for model in gathered[index]:
                _try(model, timeout_s, meter, launch)
            took_s[index] = clock() - begin_s
        if skipped:
            break
    left_out = [one.point.title for index, one in enumerate(candidates) if index in skipped and index not in took_s]
    swept = [
        Swept(label=model.arm.subject.label, point=one.point, trials=tuple(model.trials), failure=model.failure)
        for index, one in enumerate(candidates)
        if index in took_s
        for model in gathered[index]
    ]
    return SweepResult(tuple(swept), tuple(left_out))


def _try(model: _Gathered, timeout_s: float, meter: EnergyMeter | None, launch: Launch) -> None:
    """Run one trial; a model that failed once is not tried again."""
    if model.failure is not None:
        return
    try:
        model.arm.require_prepared()
        model.trials.append(_trial(model.arm, timeout_s, meter, launch))
    except (WorkerError, WrongAnswersError, RandomAnswersError) as error:
        model.failure, model.trials = str(error), []


def _trial(arm: PreparedArm, timeout_s: float, meter: EnergyMeter | None, launch: Launch) -> SweepTrial:
    worker = launch(arm.spec, timeout_s=timeout_s)
    try:
        worker.load(arm.feeds, arm.others)
        arm.verify(worker)
        plan = plan_blocks([worker.warm_up(_WARM_UP).latency_ns], _BLOCKS)
        calls: list[int] = []
        energy_uj, energy_calls = 0, 0
        for _ in range(plan.rounds):
            used_uj = None
            if meter is not None:
                meter.start()
            try:
                calls += worker.block(plan.calls[0], plan.dropped[0])
            finally:
                used_uj = meter.stop() if meter is not None else None
            if used_uj is not None:
                energy_uj += used_uj
                energy_calls += plan.calls[0] + plan.dropped[0]
        closing = worker.finish()
    finally:
        worker.close()
    return SweepTrial(
        calls_ns=tuple(calls),
        cpu_ns=closing.cpu_ns,
        peak_bytes=closing.memory.peak_bytes,
        energy_uj=energy_uj if energy_calls else None,
        energy_calls=energy_calls,
    )
