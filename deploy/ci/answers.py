"""Check that the outputs of a model match those of its baseline."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.arm import PreparedArm
from benchmarks.machine.machine import Machine
from benchmarks.records.measurement import Measurement
from benchmarks.runner import Progress, measure
from benchmarks.settings import Settings
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.subject import SubjectSpec
from deploy.results.bench_grid import reference_of

__all__ = ["answers_beside"]

_MOST = 4
"""Maximum number of given inputs that are checked."""


def answers_beside(
    candidate: SubjectSpec, baseline: SubjectSpec, settings: Settings, say: Progress, machine: Machine | None = None
) -> Measurement:
    """Compare the outputs of the compiled candidate with its baseline's reference on the same inputs.

    Parameters
    ----------
    candidate, baseline : SubjectSpec
        Both on the same backend.
    settings : Settings
        Settings of the job.
    say : callable
        Called with one short line for each step.
    machine : Machine, optional
        Its lock is used; default: this machine.

    Returns
    -------
    Measurement
        A quick measurement: only its agreement or failure counts.
    """
    say(f"{candidate.backend}: answers of {candidate.label} beside those of {baseline.label}")
    arm = PreparedArm.prepare(baseline, None, reference_of(baseline.model), settings, say)
    quick = replace(settings.quick(), trials=1)
    if arm.failure is not None or not arm.references:
        return measure(baseline, settings=quick, progress=say, machine=machine)
    given = replace(candidate, given=GivenInputs(), shapes=arm.sizes.shapes, batch=None)
    measured = None
    for reference in arm.references[:_MOST]:
        named = replace(reference, source=f"the baseline, by {reference.source}")
        measured = measure(given, reference=named, settings=quick, progress=say, machine=machine)
        if measured.failure is not None:
            break
    assert measured is not None
    return measured
