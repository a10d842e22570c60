"""One of the models of a measurement: what is known of it before, and what is gathered on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backends import registry
from backends.base import Array
from benchmarks.answers.reference import Reference, check, compute_reference, feeds_of, require_agreement
from benchmarks.errors import WorkerError
from benchmarks.machine.machine import Conditions
from benchmarks.process.measured import MeasuredWorker
from benchmarks.records.measurement import Agreement, ColdCosts, Measurement, Subject, Trial
from benchmarks.settings import Settings
from benchmarks.stats.caveats import doubts_about
from benchmarks.subject.inputs import InputSizes, example_inputs, index_bounds, model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec, identify

__all__ = ["Side"]

_COMPUTES_NOTHING = "null"


@dataclass(eq=False)
class Side:
    """One model.

    Parameters
    ----------
    spec : SubjectSpec
        What the caller asked for.
    subject : Subject
        The same with its hash.
    sizes : InputSizes
        Of the timed call.
    feeds : Mapping of str to ndarray
        Inputs of the timed call.
    reference : Reference or None
        Answers that it must give; None where the backend computes nothing.
    """

    spec: SubjectSpec
    subject: Subject
    sizes: InputSizes
    feeds: Mapping[str, Array]
    reference: Reference | None
    trials: list[Trial] = field(default_factory=list)
    agreement: Agreement | None = None
    backend_version: str | None = None
    cold: ColdCosts | None = None
    failure: str | None = None
    failure_kind: str | None = None

    @classmethod
    def prepare(
        cls,
        spec: SubjectSpec,
        feeds: Mapping[str, Array] | None,
        reference: Reference | None,
        settings: Settings,
        say: Callable[[str], None],
    ) -> Side:
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

    def measurement(self, conditions: Conditions, settings: Settings, ended: str, started_utc: str) -> Measurement:
        """Give the record."""
        trials = () if self.failure is not None else tuple(self.trials)
        doubts = list(doubts_about(trials, conditions.fitness)) if trials else []
        if trials and self.reference is None:
            doubts.append(f"answers were not checked: backend {self.spec.backend!r} computes nothing")
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
            doubts=tuple(doubts),
            seed=settings.seed,
            budget_s=settings.budget_s,
            ended=ended,
            started_utc=started_utc,
        )
