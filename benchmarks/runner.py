"""Measure one model, or two in turn. No runtime is loaded in this process: every model runs in its own processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from backends.base import Array
from benchmarks.answers.reference import Reference
from benchmarks.arm import PreparedArm
from benchmarks.comparison import MIN_PAIRS, compared, continued
from benchmarks.errors import NotComparableError, SettingError
from benchmarks.journal import Journal
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.process.measured import Launch, MeasuredProcess
from benchmarks.records.measurement import Comparison, Cost, Measurement, Trial
from benchmarks.settings import Settings
from benchmarks.stopping import enough_pairs, enough_trials
from benchmarks.subject.subject import SubjectSpec
from benchmarks.trials import Schedule

__all__ = ["Progress", "Settings", "SubjectSpec", "Until", "Wanted", "compare", "measure"]

Progress = Callable[[str], None]
Until = Callable[[Sequence[Trial], bool], str | None]
"""Returns in words why the trials so far are enough, else None; the flag tells whether the budget is spent."""
Wanted = Callable[[Sequence[Trial], Sequence[Trial]], bool]
"""Returns whether more trials of baseline and candidate are wanted although the verdict is clear; a failed baseline has
fewer trials."""


def measure(
    spec: SubjectSpec,
    *,
    feeds: Mapping[str, Array] | None = None,
    reference: Reference | None = None,
    settings: Settings | None = None,
    cost: Cost | None = None,
    progress: Progress | None = None,
    launch: Launch = MeasuredProcess,
    machine: Machine | None = None,
    journal: Journal | None = None,
    earlier: Measurement | None = None,
    until: Until | None = None,
) -> Measurement:
    """Measure one model.

    Parameters
    ----------
    spec : SubjectSpec
        The model to measure.
    feeds : Mapping of str to ndarray, optional
        Inputs of the timed call. Defaults to the first examples of `reference`, else made up from ``settings.seed``.
    reference : Reference, optional
        Answers the compiled model must give before it is timed. Defaults to the answers of ONNX Runtime without
        optimisations to the feeds.
    settings : Settings, optional
        How long and how often to measure.
    cost : Cost, optional
        Its cost (MACs, parameters, bytes), for the journal; counted by default if there is a journal.
    progress : callable, optional
        Receives one short line for each step.
    launch : Launch
        How a measured process is started.
    machine : Machine, optional
        Its clock and lock; defaults to this machine.
    journal : Journal, optional
        Receives each trial as it ends, so that a killed run loses at most one.
    earlier : Measurement, optional
        Earlier measurement of the same subject on this machine: its trials come first.
    until : callable, optional
        Decides when to stop, in place of `benchmarks.stopping.enough_trials`.

    Returns
    -------
    Measurement
        With ``failure`` if the model could not be compiled, answered wrongly, or its process died or hung.

    Raises
    ------
    InputError
        No inputs can be made, or the reference does not fit.
    BackendError
        The file is missing or broken, or there is no such backend.
    """
    settings, say = settings or Settings(), progress or (lambda _: None)
    arm = PreparedArm.prepare(spec, feeds, reference, settings, say)
    # A journal of a killed run should tell what the model costs.
    costs = [] if journal is None else [cost or arm.counted()]
    if earlier is not None:
        arm.go_on_from(earlier)
    schedule = Schedule([arm], settings, say, launch, machine or ThisMachine(), journal, costs)
    until = until or (lambda trials, spent: enough_trials(trials, settings, spent=spent))
    measured = schedule.run(lambda spent: until(arm.trials, spent))[0]
    return measured if earlier is None else continued(earlier, measured)


def compare(
    candidate: SubjectSpec,
    baseline: SubjectSpec,
    *,
    feeds: Mapping[str, Array] | None = None,
    candidate_reference: Reference | None = None,
    baseline_reference: Reference | None = None,
    settings: Settings | None = None,
    costs: tuple[Cost, Cost] | None = None,
    progress: Progress | None = None,
    launch: Launch = MeasuredProcess,
    machine: Machine | None = None,
    journal: Journal | None = None,
    earlier: Comparison | None = None,
    wanted: Wanted | None = None,
) -> Comparison:
    """Measure two models in turn, pair by pair and block by block, until the verdict is clear or the budget ends.

    If one of them fails, the other is measured alone to the end, and the verdict is ``"failed"``.

    Parameters
    ----------
    candidate, baseline : SubjectSpec
        The two models, of the same precision and batch.
    feeds : Mapping of str to ndarray, optional
        Inputs of the timed call of both. Defaults to the first examples of the baseline's reference, or of the
        candidate's if only that is given; else see `measure`.
    candidate_reference, baseline_reference : Reference, optional
        See `measure`.
    settings : Settings, optional
        At least 2 trials; fewer than 6 give no verdict.
    costs : (Cost, Cost), optional
        Costs of the baseline and of the candidate; counted by default.
    progress : callable, optional
        Receives one short line for each step.
    launch : Launch
        How a measured process is started.
    machine : Machine, optional
        Its clock and lock; defaults to this machine.
    journal : Journal, optional
        Receives each trial as it ends, so that a killed run loses at most one.
    earlier : Comparison, optional
        Earlier comparison of the same two on this machine, with ``settings.provisional``: its pairs come first.
    wanted : callable, optional
        Whether more pairs are needed for something other than the verdict; they do not change the verdict.

    Raises
    ------
    NotComparableError
        The two differ in precision or batch.
    SettingError
        A single trial was requested.
    InputError, BackendError
        See `measure`.
    """
    settings, say = settings or Settings(), progress or (lambda _: None)
    if settings.trials is not None and settings.trials < MIN_PAIRS:
        raise SettingError(f"a comparison needs at least {MIN_PAIRS} trials (6 for a verdict), got {settings.trials}")
    if candidate.options.precision != baseline.options.precision:
        raise NotComparableError(
            f"precision differs: {baseline.options.precision} of the baseline, {candidate.options.precision} of the "
            f"candidate; measure both with the same"
        )
    arms = [
        PreparedArm.prepare(spec, feeds, reference, settings, say)
        for spec, reference in ((baseline, baseline_reference), (candidate, candidate_reference))
    ]
    if arms[0].sizes.batch != arms[1].sizes.batch:
        raise NotComparableError(
            f"batch differs: {arms[0].sizes.batch} of the baseline, {arms[1].sizes.batch} of the candidate; "
            f"measure both with the same"
        )
    if feeds is None:
        _share_real_inputs(arms, (baseline_reference, candidate_reference))
    costs = costs or (arms[0].counted(), arms[1].counted())
    if earlier is not None:
        for arm, side in zip(arms, earlier.sides, strict=True):
            arm.go_on_from(side)
    schedule = Schedule(arms, settings, say, launch, machine or ThisMachine(), journal, costs)

    def enough(spent: bool) -> str | None:
        ended = enough_pairs(arms[0], arms[1], settings, spent=spent)
        if ended is None or spent or wanted is None or arms[1].failure is not None:
            return ended
        return None if wanted(arms[0].trials, arms[1].trials) else ended

    of_baseline, of_candidate = schedule.run(enough)
    if earlier is not None:
        of_baseline, of_candidate = continued(earlier.baseline, of_baseline), continued(earlier.candidate, of_candidate)
    return compared(of_baseline, of_candidate, costs, settings, ended=of_baseline.ended)


def _share_real_inputs(arms: Sequence[PreparedArm], references: Sequence[Reference | None]) -> None:
    """Time both on the same inputs: those of the first arm with real ones."""
    real = next((arm for arm, given in zip(arms, references, strict=True) if given), None)
    if real is not None and arms[0].sizes == arms[1].sizes:
        arms[0].feeds = arms[1].feeds = real.feeds
