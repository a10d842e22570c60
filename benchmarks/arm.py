"""One arm (model) of a measurement: its results so far, and how it is prepared before the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backends import modelfile, registry
from backends.base import Array, Precision
from backends.errors import ModelLoadError, OptionError, RunError, one_line
from backends.precision import floats_of
from benchmarks.answers.counted import counted
from benchmarks.answers.reference import (
    Reference,
    check,
    coarsest,
    compute_references,
    feeds_of,
    nowhere_finite,
    require_agreement,
)
from benchmarks.answers.rounding import rounding_of
from benchmarks.errors import NoAnswerError, NotComparableError, RandomAnswersError, WorkerError, WrongAnswersError
from benchmarks.process.measured import HOW_TO_WAIT, MeasuredWorker
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
from benchmarks.subject.given import HOW_TO_GIVE, call_inputs
from benchmarks.subject.inputs import InputSizes, ModelSpecs, resolve_sizes
from benchmarks.subject.random_nodes import random_nodes
from benchmarks.subject.subject import SubjectSpec, identify

__all__ = ["Arm", "PreparedArm"]

_COMPUTES_NOTHING = "null"


@dataclass(eq=False, kw_only=True)
class Arm:
    """Results gathered for one model, by a running measurement or read from its journal.

    Parameters
    ----------
    subject : Subject
        The model with its hash, and its options.
    trials : list of Trial
        Completed trials, in order.
    agreement : Agreement or None
        The worst check of its answers.
    backend_version : str or None
        As reported by the runtime.
    cold : ColdCosts or None
        Costs of compiling, if requested.
    failure, failure_kind : str or None
        Why there are no samples, and the class of the error behind it.
    unchecked : str
        Why its answers were not checked, or hardly; empty if they were.
    """

    subject: Subject
    trials: list[Trial] = field(default_factory=list)
    agreement: Agreement | None = None
    backend_version: str | None = None
    cold: ColdCosts | None = None
    failure: str | None = None
    failure_kind: str | None = None
    unchecked: str = ""

    def go_on_from(self, earlier: Measurement) -> None:
        """Take over the trials of an earlier measurement of the same subject.

        Raises
        ------
        NotComparableError
            It is of another subject.
        """
        if earlier.subject != self.subject:
            raise NotComparableError(
                f"{self.subject.label}: the earlier measurement is of another file, backend or options: measure again"
            )
        self.trials = list(earlier.trials)
        self.agreement = self.agreement or earlier.agreement
        self.backend_version = self.backend_version or earlier.backend_version

    def fail(self, error: Exception, kind: str) -> None:
        """Record why there are no samples."""
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
        """Return the record: the trials with their caveats, or the failure.

        Parameters
        ----------
        conditions : Conditions
            State of the machine during the measurement.
        seed, started_utc, budget_s, ended
            See `Measurement`.
        caveats : sequence of str
            Known caveats beyond those the numbers show themselves.
        """
        trials = () if self.failure is not None else tuple(self.trials)
        against = [*caveats, *caveats_about(trials, conditions.fitness)] if trials else []
        if trials and self.unchecked:
            against.append(self.unchecked)
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
        Input sizes of the timed call.
    feeds : Mapping of str to ndarray
        Inputs of the timed call.
    others : sequence of Mapping of str to ndarray
        Inputs that alternate with `feeds`: further given examples.
    references : sequence of Reference
        Answers that it must give; empty if none are checked.
    judged_in : {"fp64", "fp32", "fp16", "bf16", "int8"}
        Precision that sets the tolerance to the reference: the coarsest one the answers go through.
    """

    spec: SubjectSpec
    sizes: InputSizes
    feeds: Mapping[str, Array]
    others: Sequence[Mapping[str, Array]] = ()
    references: Sequence[Reference] = ()
    judged_in: Precision
    _rounding: dict[int, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        spec: SubjectSpec,
        feeds: Mapping[str, Array] | None,
        reference: Reference | None,
        settings: Settings,
        say: Callable[[str], None],
    ) -> PreparedArm:
        """Read the file, determine sizes and inputs, and compute the reference if none was given.

        Raises
        ------
        InputError
            No inputs can be made, or the reference does not fit.
        BackendError
            The file is missing or broken, or there is no such backend.
        """
        backend = registry.create(spec.backend)  # an unknown name is the caller's mistake, not a failed measurement
        file = modelfile.read(spec.model)
        specs = ModelSpecs.of(file)
        if spec.given:
            reference = None  # its answers belong to other inputs
        shapes = {
            **spec.given.shapes(specs.inputs, spec.shapes),
            **{name: array.shape for name, array in (feeds or {}).items()},
        }
        examples = {name: array.shape for name, array in (reference.inputs if reference else {}).items()}
        sizes = resolve_sizes(specs, batch=spec.batch, shapes=shapes, examples=examples)
        others: Sequence[Mapping[str, Array]] = ()
        if feeds is None and reference is not None:
            feeds = feeds_of(reference, sizes)
        elif feeds is None:
            feeds, *others = call_inputs(spec.model, sizes, seed=settings.seed, given=spec.given)
        subject = identify(spec, sizes.batch, 1 + len(others))
        judged_in = coarsest({spec.options.precision, file.precision, *floats_of(file.proto.graph)})
        arm = cls(subject=subject, spec=spec, sizes=sizes, feeds=feeds, others=others, judged_in=judged_in)
        arm.references = () if reference is None else (reference,)
        try:
            backend.require_precision(spec.model, spec.options.precision)
        except OptionError as error:
            arm.fail(error, type(error).__name__)
            return arm
        if spec.backend == _COMPUTES_NOTHING:
            arm.unchecked = f"answers were not checked: backend {subject.backend!r} computes nothing"
        elif not settings.check:
            arm.references, arm.unchecked = (), "answers were not checked: --no-check"
        elif reference is None:
            say(f"{subject.label}: computing the reference answers")
            arm._compute_references(settings.call_timeout_s, takes_inputs=bool(specs.inputs))
        if blank := [name for one in arm.references for name in nowhere_finite(one)]:
            arm.unchecked = (
                f"output {blank[0]!r} is nowhere finite on these inputs: nothing was compared in it; {HOW_TO_GIVE}"
            )
        return arm

    def _compute_references(self, timeout_s: float, *, takes_inputs: bool) -> None:
        try:
            self.references = compute_references(
                self.spec.model,
                (self.feeds, *self.others),
                measured=self.spec.backend,
                made_up=not self.spec.given,
                timeout_s=timeout_s,
            )
        except WorkerError as error:
            # The measured backend may still support the model, or the given inputs.
            if error.kind == ModelLoadError.__name__ or (error.kind == RunError.__name__ and self.spec.given):
                self.unchecked = f"answers were not checked: {one_line(error, limit=1000)}"
                return
            hints = {NoAnswerError.__name__: f"; {HOW_TO_WAIT}"}
            if takes_inputs:
                hints[RunError.__name__] = f"; the inputs were made up: {HOW_TO_GIVE}"
            hint = hints.get(error.kind, "")
            self.fail(WorkerError(f"{error}{hint}"), error.kind)

    def counted(self) -> Cost:
        """Return what it costs, see `benchmarks.answers.counted`."""
        return counted(self.spec.model, shapes=self.sizes.shapes, feeds=self.feeds)

    def require_prepared(self) -> None:
        """Raise if it is already known that the arm cannot be measured.

        Raises
        ------
        WorkerError
            The reason found by `prepare`.
        """
        if self.failure is not None:
            raise WorkerError(self.failure, self.failure_kind or "")

    def verify(self, worker: MeasuredWorker) -> None:
        """Check the answers of a freshly compiled model.

        If they differ by more than the tolerance, two further checks follow: whether the model agrees with itself, and
        how much of the difference rounding explains.

        Raises
        ------
        WrongAnswersError
            They differ from the reference.
        RandomAnswersError
            They differ from call to call.
        """
        for index, reference in enumerate(self.references):
            try:
                self._compare(worker, index)
            except WrongAnswersError as error:
                self._require_repeatable(worker, reference, error)
                if index in self._rounding:
                    raise
                feeds = feeds_of(reference, self.sizes)
                self._rounding[index] = rounding_of(self.spec.model, feeds, precision=self.judged_in)
                self._compare(worker, index)
                if self.agreement is not None and self.agreement.rounding > self.agreement.output_range:
                    self.unchecked = "answers were hardly checked: on these inputs rounding decides what they are"

    def _compare(self, worker: MeasuredWorker, index: int) -> None:
        agreement = check(
            worker.run,
            self.references[index],
            self.sizes,
            precision=self.judged_in,
            rounding=self._rounding.get(index),
        )
        agreement = agreement.model_copy(update={"n_inputs": agreement.n_inputs * len(self.references)})
        if self.agreement is None or not self.agreement.ok or agreement.max_abs_error >= self.agreement.max_abs_error:
            self.agreement = agreement
        require_agreement(agreement)

    def _require_repeatable(self, worker: MeasuredWorker, reference: Reference, error: WrongAnswersError) -> None:
        drawing = random_nodes(self.spec.model)
        if drawing:
            raise RandomAnswersError(
                f"the answers differ from call to call: node {drawing[0]} draws random numbers; they cannot be "
                f"checked, time the model with --no-check"
            ) from error
        feeds = feeds_of(reference, self.sizes)
        itself = replace(reference, inputs=feeds, outputs=worker.run(feeds))
        try:
            require_agreement(check(worker.run, itself, self.sizes, precision=self.judged_in))
        except WrongAnswersError:
            raise RandomAnswersError(
                "the answers differ from call to call, by no node that is known to draw random numbers; they cannot be "
                "checked, time the model with --no-check"
            ) from error
