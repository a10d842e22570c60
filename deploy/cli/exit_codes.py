"""What the exit code of ``deploy`` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.results import Results

__all__ = ["INCONCLUSIVE", "INTERRUPTED", "OK", "REGRESSION", "UNFIT", "USAGE", "WRONG_ANSWERS", "exit_code"]

OK = 0
REGRESSION = 1
"""The candidate is slower than the baseline."""
USAGE = 2
"""A mistake of the user, or something that this machine lacks, or a model that could not be measured; one line on
stderr says what to do."""
INCONCLUSIVE = 3
"""The samples that were made do not decide."""
UNFIT = 4
"""The machine was not fit for measuring: its numbers should not be believed."""
WRONG_ANSWERS = 5
"""A compiled model's answers differ from the reference."""
INTERRUPTED = 130


def exit_code(results: Results, *, accept_unfit: bool = False) -> int:
    """Give the exit code of a measurement: the gravest of what happened.

    Wrong answers come first, then what could not be measured; a verdict of an unfit machine is none.
    """
    measured = results.all_measurements()
    kinds = {found.failure_kind for found in measured if found.failure is not None}
    verdicts = {pair.verdict for pair in results.comparisons}
    if "WrongAnswersError" in kinds:
        return WRONG_ANSWERS
    if kinds:
        return USAGE
    if not accept_unfit and any(found.fitness is not None and found.fitness.verdict == "unfit" for found in measured):
        return UNFIT
    if "slower" in verdicts:
        return REGRESSION
    return INCONCLUSIVE if "inconclusive" in verdicts else OK
