"""Exit codes of ``deploy``, and the code of a set of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.records.measurement import Comparison, Measurement
    from benchmarks.scenarios.load import LoadMeasurement
    from deploy.results.results import Results

__all__ = [
    "DEFECT",
    "DIFFERENT",
    "INCONCLUSIVE",
    "INTERRUPTED",
    "OK",
    "READER_LEFT",
    "REGRESSION",
    "TARGET_NOT_REACHED",
    "UNFIT",
    "USAGE",
    "WRONG_ANSWERS",
    "code_of",
    "exit_code",
    "measured_code",
    "run_code",
    "sides",
]

OK = 0
REGRESSION = 1
"""The candidate is slower than the baseline."""
USAGE = 2
"""A user error, something that this machine lacks, or a model that could not be measured; one line on stderr says
what to do."""
INCONCLUSIVE = 3
"""The samples taken do not decide."""
UNFIT = 4
"""The machine was not fit for measuring: its numbers should not be believed."""
WRONG_ANSWERS = 5
"""A compiled model's answers differ from the reference."""
TARGET_NOT_REACHED = 6
"""No network within the allowed accuracy drop reached the target: the best one found is kept."""
DIFFERENT = 7
"""Two plans keep different units."""
DEFECT = 70
"""A bug in prune-deploy."""
INTERRUPTED = 130
READER_LEFT = 141
"""The reader of the output closed it early, as `head` does: what a shell reports for SIGPIPE."""


def exit_code(results: Results) -> int:
    """Return the exit code of a measurement: that of the most serious outcome.

    Wrong answers come first, then models that could not be measured; a verdict from an unfit machine does not count.
    """
    if (code := measured_code(results.all_measurements(), accept_unfit=results.accepts_unfit)) != OK:
        return code
    verdicts = {pair.verdict for pair in results.comparisons}
    if "slower" in verdicts:
        return REGRESSION
    return INCONCLUSIVE if "inconclusive" in verdicts else OK


def run_code(results: Results) -> int:
    """Return the exit code of ``deploy run``: a slower network is a valid answer, a missing backend is not."""
    if any(not one.agrees for one in results.answers()):
        return WRONG_ANSWERS
    missing, accepted = bool(results.skipped), results.accepts_unfit
    if (code := measured_code(results.all_measurements(), missing=missing, accept_unfit=accepted)) != OK:
        return code
    proofs = [row.pruning.proof for row in results.models if row.pruning is not None]
    searches = [proof.drop for proof in proofs if proof is not None and proof.drop is not None]
    return OK if all(search.reached for search in searches) else TARGET_NOT_REACHED


def code_of(results: Results) -> int:
    """Return the exit code of the command that made these results."""
    return exit_code(results) if results.recipe is None else run_code(results)


def measured_code(
    measured: Iterable[Measurement | LoadMeasurement], *, missing: bool = False, accept_unfit: bool = False
) -> int:
    """Return the exit code of a command that measured, ignoring verdicts: a slower model is a valid answer.

    Parameters
    ----------
    measured : iterable of Measurement or LoadMeasurement
        All of them.
    missing : bool, default=False
        Whether something that was requested is missing.
    accept_unfit : bool, default=False
        Whether the user accepts results from an unfit machine.
    """
    every = list(measured)
    kinds = {one.failure_kind for one in every if one.failure is not None}
    if "WrongAnswersError" in kinds:
        return WRONG_ANSWERS
    if kinds or missing:
        return USAGE
    return UNFIT if not accept_unfit and any(one.unfit for one in every) else OK


def sides(pairs: Iterable[Comparison | None]) -> list[Measurement]:
    """Return both measurements of each comparison that was made."""
    return [side for pair in pairs if pair is not None for side in pair.sides]
