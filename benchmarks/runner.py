"""Who is measured when. This process holds no runtime: every model lives in processes of its own.

A trial is one fresh process of one model. `compare` runs trials in pairs: both processes are alive, and their blocks
alternate in balanced random order while the other one rests, so that whatever the machine does hits both alike.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from backends import registry
from backends.base import Array
from benchmarks.cost import cost
from benchmarks.doubts import doubts_about
from benchmarks.environment import Watch
from benchmarks.errors import NotComparableError, SettingError, WorkerError, WrongAnswersError
from benchmarks.inputs import InputSizes, example_inputs, index_bounds, model_specs, resolve_sizes
from benchmarks.process import Launch, Loaded, MeasuredProcess, MeasuredWorker, Warm
from benchmarks.records import Agreement, Comparison, Environment, Interval, Measurement, Subject, Trial
from benchmarks.reference import Reference, check, compute_reference, feeds_of, require_agreement
from benchmarks.settings import Settings, plan_blocks
from benchmarks.subject import SubjectSpec, identify
from benchmarks.verdict import Verdict, decide, log_ratios, require_comparable

__all__ = ["Progress", "Settings", "SubjectSpec", "compare", "measure", "raise_failure"]

Progress = Callable[[str], None]

_COMPUTES_NOTHING = "null"
_MIN_PAIRS = 2


def measure(
    spec: SubjectSpec,
    *,
    feeds: Mapping[str, Array] | None = None,
    reference: Reference | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    launch: Launch = MeasuredProcess,
) -> Measurement:
    """Measure one model.

    Parameters
    ----------
    spec : SubjectSpec
        What is measured.
    feeds : Mapping of str to ndarray, optional
        Inputs of the timed call. Left out: the first examples of `reference`, else made up from ``settings.seed``.
    reference : Reference, optional
        Answers the compiled model must give before it is timed. Left out: what ONNX Runtime without optimisations
        answers to the feeds.
    settings : Settings, optional
        See there.
    progress : callable, optional
        Receives one short line for each step.
    launch : Launch
        How a measured process is started.

    Returns
    -------
    Measurement
        With ``failure`` where the model could not be compiled, answered wrongly, or its process died or hung.

    Raises
    ------
    InputError
        No inputs can be made, or the reference does not fit.
    BackendError
        The file is missing or broken, or there is no such backend.
    """
    settings = settings or Settings()
    side = _Side.prepare(spec, feeds, reference, settings, progress or _silent)
    return _Schedule([side], settings, progress or _silent, launch).run()[0]


def compare(
    candidate: SubjectSpec,
    baseline: SubjectSpec,
    *,
    feeds: Mapping[str, Array] | None = None,
    candidate_reference: Reference | None = None,
    baseline_reference: Reference | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    launch: Launch = MeasuredProcess,
) -> Comparison:
    """Measure two models in turn, pair by pair and block by block.

    When one of them fails the other is measured alone to the end, and the verdict is ``"failed"``.

    Parameters
    ----------
    candidate, baseline : SubjectSpec
        Of the same precision and batch.
    feeds : Mapping of str to ndarray, optional
        Inputs of the timed call of both. Left out: the first examples of the baseline's reference, or of the
        candidate's where only that is given; else see `measure`.
    candidate_reference, baseline_reference : Reference, optional
        See `measure`.
    settings : Settings, optional
        At least 2 trials; fewer than 6 give no verdict.
    progress : callable, optional
        Receives one short line for each step.
    launch : Launch
        How a measured process is started.

    Raises
    ------
    NotComparableError
        The two differ in precision or batch.
    SettingError
        A single trial was asked for.
    CostError
        What one of them costs cannot be counted.
    InputError, BackendError
        See `measure`.
    """
    settings, say = settings or Settings(), progress or _silent
    if settings.trials < _MIN_PAIRS:
        raise SettingError(f"a comparison wants at least {_MIN_PAIRS} trials (6 for a verdict), got {settings.trials}")
    if candidate.options.precision != baseline.options.precision:
        raise NotComparableError(
            f"precision differs: {baseline.options.precision} of the baseline, {candidate.options.precision} of the "
            f"candidate; measure both with the same"
        )
    sides = [
        _Side.prepare(spec, feeds, reference, settings, say)
        for spec, reference in ((baseline, baseline_reference), (candidate, candidate_reference))
    ]
    if sides[0].sizes.batch != sides[1].sizes.batch:
        raise NotComparableError(
            f"batch differs: {sides[0].sizes.batch} of the baseline, {sides[1].sizes.batch} of the candidate; "
            f"measure both with the same"
        )
    real = next(
        (side for side, given in zip(sides, (baseline_reference, candidate_reference), strict=True) if given), None
    )
    if feeds is None and real is not None and sides[0].sizes == sides[1].sizes:
        sides[0].feeds = sides[1].feeds = real.feeds
    costs = [cost(spec.model, shapes=spec.shapes) for spec in (baseline, candidate)]
    of_baseline, of_candidate = _Schedule(sides, settings, say, launch).run()
    speedup: Interval | None = None
    verdict: Verdict | Literal["failed"] = "failed"
    ratios: tuple[float, ...] = ()
    if of_baseline.failure is None and of_candidate.failure is None:
        require_comparable(of_candidate, of_baseline)
        ratios = log_ratios(of_candidate, of_baseline)
        speedup, verdict = decide(ratios, settings.margin)
    return Comparison(
        baseline=of_baseline,
        candidate=of_candidate,
        baseline_cost=costs[0],
        candidate_cost=costs[1],
        speedup=speedup,
        log_ratios=ratios,
        margin=settings.margin,
        verdict=verdict,
    )


def raise_failure(measurement: Measurement) -> None:
    """Turn a failure back into an error, for callers that want no rows.

    Raises
    ------
    WrongAnswersError
        The answers were wrong.
    WorkerError
        Anything else failed.
    """
    if measurement.failure is None:
        return
    if measurement.failure_kind == WrongAnswersError.__name__:
        raise WrongAnswersError(f"{measurement.subject.label} on {measurement.subject.backend}: {measurement.failure}")
    raise WorkerError(measurement.failure, measurement.failure_kind or WorkerError.__name__)


@dataclass
class _Side:
    """One of the models: what is known before, and what is gathered on the way."""

    spec: SubjectSpec
    subject: Subject
    sizes: InputSizes
    feeds: Mapping[str, Array]
    reference: Reference | None
    trials: list[Trial] = field(default_factory=list)
    agreement: Agreement | None = None
    backend_version: str | None = None
    failure: str | None = None
    failure_kind: str | None = None

    @classmethod
    def prepare(
        cls,
        spec: SubjectSpec,
        feeds: Mapping[str, Array] | None,
        reference: Reference | None,
        settings: Settings,
        say: Progress,
    ) -> _Side:
        registry.create(spec.backend)  # an unknown name is the caller's mistake, not a failed measurement
        specs = model_specs(spec.model)
        shapes = {**spec.shapes, **{name: array.shape for name, array in (feeds or {}).items()}}
        examples = {name: array.shape for name, array in (reference.inputs if reference else {}).items()}
        sizes = resolve_sizes(specs, batch=spec.batch, shapes=shapes, examples=examples)
        if feeds is None:
            feeds = (
                feeds_of(reference, sizes)
                if reference is not None
                else example_inputs(
                    specs.inputs, seed=settings.seed, shapes=sizes.shapes, bounds=index_bounds(spec.model)
                )
            )
        subject = identify(spec, sizes.batch)
        side = cls(spec, subject, sizes, feeds, reference)
        if reference is None and spec.backend != _COMPUTES_NOTHING:
            say(f"{subject.label}: computing the reference answers")
            try:
                side.reference = compute_reference(spec.model, feeds, timeout_s=settings.timeout_s)
            except WorkerError as error:
                side.fail(error, error.kind)
        return side

    def fail(self, error: Exception, kind: str) -> None:
        """Remember why there are no samples."""
        self.failure, self.failure_kind = " ".join(str(error).split()), kind

    def verify(self, worker: MeasuredWorker) -> None:
        """Check the answers of a freshly compiled model.

        Raises
        ------
        WrongAnswersError
            They differ from the reference.
        """
        if self.reference is None:
            return
        agreement = check(worker.run, self.reference, self.sizes, precision=self.spec.options.precision)
        if self.agreement is None or agreement.max_abs_error >= self.agreement.max_abs_error:
            self.agreement = agreement
        require_agreement(agreement)

    def measurement(self, environment: Environment, settings: Settings, started_utc: str) -> Measurement:
        """Give the record."""
        trials = () if self.failure is not None else tuple(self.trials)
        doubts = list(doubts_about(self.subject, trials, environment)) if trials else []
        if trials and self.reference is None:
            doubts.append(f"answers were not checked: backend {self.spec.backend!r} computes nothing")
        return Measurement(
            subject=self.subject,
            backend_version=self.backend_version,
            environment=environment,
            agreement=self.agreement,
            trials=trials,
            failure=self.failure,
            failure_kind=self.failure_kind,
            doubts=tuple(doubts),
            seed=settings.seed,
            started_utc=started_utc,
        )


@dataclass
class _Live:
    """One process of a trial that is under way."""

    side: _Side
    worker: MeasuredWorker
    order: int
    loaded: Loaded
    warm: Warm
    blocks: list[tuple[int, ...]] = field(default_factory=list)

    def trial(self) -> Trial:
        closing = self.worker.finish()
        return Trial(
            order=self.order,
            import_ns=self.loaded.import_ns,
            load_ns=self.loaded.load_ns,
            first_run_ns=self.loaded.first_run_ns,
            warmup_ns=self.warm.calls_ns,
            warmup_calls=self.warm.n_calls,
            warmup_ended=self.warm.ended,
            blocks_ns=tuple(self.blocks),
            cpu_ns=closing.cpu_ns,
            involuntary_switches=closing.involuntary_switches,
            memory=closing.memory,
            executed_precision=self.loaded.executed_precision,
            properties=self.loaded.properties,
        )


class _SideFailedError(Exception):
    """One side of a trial failed; it knows why."""


class _Schedule:
    """Runs the trials of one or two sides, and goes on with those that still work."""

    def __init__(self, sides: Sequence[_Side], settings: Settings, say: Progress, launch: Launch) -> None:
        self._sides = sides
        self._settings = settings
        self._say = say
        self._launch = launch
        self._rng = random.Random(settings.seed)
        self._n_launched = 0

    def run(self) -> list[Measurement]:
        """Measure; one record for each side, in their order."""
        started_utc = datetime.now(UTC).isoformat(timespec="seconds")
        watch = Watch()
        trial = 0
        while trial < self._settings.trials and (active := [side for side in self._sides if side.failure is None]):
            names = " and ".join(side.subject.label for side in active)
            self._say(f"trial {trial + 1} of {self._settings.trials}: {names} on {active[0].subject.backend}")
            try:
                done = self._trial(active)
            except _SideFailedError:
                continue  # the same trial again, without the side that failed
            for side, record in zip(active, done, strict=True):
                side.trials.append(record)
            trial += 1
        versions = {side.spec.backend: side.backend_version for side in self._sides if side.backend_version is not None}
        gpu = any(side.spec.options.device != "cpu" for side in self._sides)
        environment = watch.finish(versions, gpu=gpu)
        return [side.measurement(environment, self._settings, started_utc) for side in self._sides]

    def _trial(self, active: Sequence[_Side]) -> list[Trial]:
        with ExitStack() as stack:
            live: dict[int, _Live] = {}
            for index in self._shuffled(len(active)):
                live[index] = self._start(active[index], stack)
            ordered = [live[index] for index in range(len(active))]
            plan = plan_blocks([one.warm.latency_ns for one in ordered], self._settings)
            for order in self._balanced_orders(plan.rounds, len(active)):
                for index in order:
                    one = ordered[index]
                    with self._blaming(one.side):
                        one.worker.wake()
                        one.blocks.append(one.worker.block(plan.calls[index], plan.dropped[index]))
                        one.worker.rest()
            trials = []
            for one in ordered:
                with self._blaming(one.side):
                    one.worker.wake()
                    trials.append(one.trial())
            return trials

    def _start(self, side: _Side, stack: ExitStack) -> _Live:
        with self._blaming(side):
            worker = self._launch(side.spec, timeout_s=self._settings.timeout_s)
            stack.callback(worker.close)
            order, self._n_launched = self._n_launched, self._n_launched + 1
            loaded = worker.load(side.feeds)
            side.backend_version = loaded.backend_version
            side.verify(worker)
            warm = worker.warm_up(self._settings.warm_up)
            worker.rest()
            return _Live(side, worker, order, loaded, warm)

    def _shuffled(self, n: int) -> list[int]:
        return self._rng.sample(range(n), n)

    def _balanced_orders(self, rounds: int, n: int) -> list[list[int]]:
        """Random orders, each as often as its mirror image (one round more where their number is odd)."""
        orders: list[list[int]] = []
        for _ in range(math.ceil(rounds / 2)):
            order = self._shuffled(n)
            orders += [order, order[::-1]]
        self._rng.shuffle(orders)
        return orders[:rounds]

    @contextmanager
    def _blaming(self, side: _Side) -> Iterator[None]:
        try:
            yield
        except WorkerError as error:
            side.fail(error, error.kind)
            self._say(f"{side.subject.label}: failed: {side.failure}")
            raise _SideFailedError from error
        except WrongAnswersError as error:
            side.fail(error, WrongAnswersError.__name__)
            self._say(f"{side.subject.label}: failed: {side.failure}")
            raise _SideFailedError from error


def _silent(_: str) -> None:
    pass
