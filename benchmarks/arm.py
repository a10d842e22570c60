"""One of the models of a measurement: what is gathered of it, and what a run knows of it before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from backends import registry
from backends.base import Array
from backends.errors import one_line
from benchmarks.answers.counted import counted
from benchmarks.answers.reference import Reference, check, compute_reference, feeds_of, require_agreement
from benchmarks.errors import WorkerError
from benchmarks.process.measured import MeasuredWorker
from benchmarks.records.measurement import (
    Agreement,
    ColdCosts,
    Conditions,
    Cost,
    Measurement,
    Subject,
    Trial,
)
from benchmarks.settings import Settings
from benchmarks.stats.caveats import caveats_about
from benchmarks.subject.inputs import InputSizes, example_inputs, index_bounds, model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec, identify

__all__ = ["Arm", "PreparedArm"]

_COMPUTES_NOTHING = "null"


@dataclass(eq=False, kw_only=True)
class Arm:
    """What was gathered of one model, by a run that is under way or as its journal holds it.

    Parameters
    ----------
    subject : Subject
        The model with its hash, and its options.
    trials : list of Trial
        Those that ended, in their order.
    agreement : Agreement or None
        The worst check of its answers.
    backend_version : str or None
        As reported by the runtime.
    cold : ColdCosts or None
        Of compiling, where that was asked for.
    failure, failure_kind : str or None
        Why there are no samples, and the class of the error behind it.
    """

    subject: Subject
    trials: list[Trial] = field(default_factory=list)
    agreement: Agreement | None = None
    backend_version: str | None = None
    cold: ColdCosts | None = None
    failure: str | None = None
    failure_kind: str | None = None

    def fail(self, error: Exception, kind: str) -> None:
        """Remember why there are no samples."""
        self.failure, self.failure_kind = one_line(error, limit=1000), kind

    def measurement(
        self,
        conditions: Conditions,
        *,
        seed: int,
        started_utc: str,
        budget_s: float | None = None,
        ended: str = "",
        caveats: Sequence[str] = (),
    ) -> Measurement:
        """Return the record: the trials with what speaks against them, or the failure.

        Parameters
        ----------
        conditions : Conditions
            Of the machine meanwhile.
        seed, started_utc, budget_s, ended
            See `Measurement`.
        caveats : sequence of str
            What is known against the numbers beside what they show themselves.
        """
        trials = () if self.failure is not None else tuple(self.trials)
        against = [*caveats, *caveats_about(trials, conditions.fitness)] if trials else []
        if trials and self.subject.backend == _COMPUTES_NOTHING:
            against.append(f"answers were not checked: backend {self.subject.backend!r} computes nothing")
        return Measurement(
            subject=self.subject,
            backend_version=self.backend_version,
            environment=conditions.environment,
            noise=conditions.noise,
            fitness=conditions.fitness,
            agreement=self.agreement,
            trials=trials,
            cold=self.cold if trials else None,
            failure=self.failure,
            failure_kind=self.failure_kind,
            doubts=tuple(against),
            seed=seed,
            budget_s=budget_s,
            ended=ended,
            started_utc=started_utc,
        )


@dataclass(eq=False, kw_only=True)
class PreparedArm(Arm):
    """An arm that can be measured.

    Parameters
    ----------
    spec : SubjectSpec
        What the caller asked for.
    sizes : InputSizes
        Of the timed call.
    feeds : Mapping of str to ndarray
        Inputs of the timed call.
    reference : Reference or None
        Answers that it must give; None where the backend computes nothing.
    """

    spec: SubjectSpec
    sizes: InputSizes
    feeds: Mapping[str, Array]
    reference: Reference | None

    @classmethod
    def prepare(
        cls,
        spec: SubjectSpec,
        feeds: Mapping[str, Array] | None,
        reference: Reference | None,
        settings: Settings,
        say: Callable[[str], None],
    ) -> PreparedArm:
        """Read the file, settle sizes and inputs, and compute the reference where none was given.

        Raises
        ------
        InputError
            No inputs can be made, or the reference does not fit.
        BackendError
            The file is missing or broken, or there is no such backend.
        """
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
        arm = cls(subject=subject, spec=spec, sizes=sizes, feeds=feeds, reference=reference)
        if reference is None and spec.backend != _COMPUTES_NOTHING:
            say(f"{subject.label}: computing the reference answers")
            try:
                arm.reference = compute_reference(spec.model, feeds, timeout_s=settings.timeout_s)
            except WorkerError as error:
                arm.fail(error, error.kind)
        return arm

    def counted(self) -> Cost:
        """Return what it costs, see `benchmarks.answers.counted`."""
        return counted(self.spec.model, shapes=self.sizes.shapes, feeds=self.feeds)

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
