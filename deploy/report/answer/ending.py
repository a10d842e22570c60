"""Exit codes in words: what each means for a measurement, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deploy import exit_codes
from deploy.files.advice import fitting
from deploy.report.answer.records import BackendAnswer, Checked, Ending
from deploy.report.formatting import percent

__all__ = ["ending_of"]

_ORDER = ("faster", "equivalent", "inconclusive", "slower", "measured")
_UNSOLVED = ("failed", "skipped")


def ending_of(
    code: int,
    backends: Sequence[BackendAnswer],
    checked: Checked,
    *,
    unfit: str = "",
    fast: bool = False,
    budget_s: float | None = None,
    why_slower: str = "",
    lost: bool = False,
) -> Ending:
    """Return what an exit code means for these rows.

    Parameters
    ----------
    code : int
        See `deploy.exit_codes`.
    backends : sequence of BackendAnswer
        The rows.
    checked : Checked
        Whether the answers were right.
    unfit : str, optional
        Why the machine was unfit for measuring.
    fast : bool, default=False
        Whether it was a first look, which is never a verdict.
    budget_s : float, optional
        Time budget in seconds.
    why_slower : str, optional
        Command that explains why a model is slower.
    lost : bool, default=False
        Whether accuracy fell to that of guessing.
    """
    match code:
        case exit_codes.REGRESSION:
            remedy = f"keep the baseline{f', or see why: {why_slower}' if why_slower else ''}"
            return Ending(code=code, sentence=_counted(backends), remedy=remedy)
        case exit_codes.USAGE:
            rows = [row for row in backends if row.verdict in _UNSOLVED]
            hints = dict.fromkeys(row.hint for row in rows if row.hint)
            return Ending(
                code=code,
                sentence=f"not measured on {', '.join(row.place for row in rows) or 'every backend'}",
                remedy="; ".join(hints) or "repair what its row says, or leave it out; the other rows hold",
            )
        case exit_codes.INCONCLUSIVE:
            row = next((row for row in backends if row.verdict == "inconclusive"), None)
            why = f"not decided on {row.place}: {row.reason}" if row else "not decided"
            return Ending(code=code, sentence=why, remedy=_to_decide(budget_s, fast=fast))
        case exit_codes.UNFIT:
            return Ending(
                code=code,
                sentence=f"the machine was not fit for measuring{f': {unfit}' if unfit else ''}",
                remedy="measure again when it is quieter, or accept the numbers with --accept-unfit",
            )
        case exit_codes.WRONG_ANSWERS:
            return Ending(
                code=code,
                sentence=f"wrong answers: {', '.join(checked.wrong) or 'a compiled model'}",
                remedy=fitting("do not use it there: try another --backend or --precision, or export the model again"),
            )
        case exit_codes.TARGET_NOT_REACHED:
            return Ending(
                code=code,
                sentence="target not reached within the allowed drop; the best network that was found is shown",
                remedy="allow a larger max_drop, ask for a milder target, or fine-tune for more epochs",
            )
        case exit_codes.DIFFERENT:
            return Ending(code=code, sentence="the plans differ")
        case _ if lost:
            return Ending(
                code=code,
                sentence=f"{_counted(backends)}, but its accuracy is that of guessing",
                remedy="remove less, or train longer after pruning; a speed-up of this network is worth nothing",
            )
        case _:
            return Ending(code=code, sentence=_counted(backends))


def _to_decide(budget_s: float | None, *, fast: bool) -> str:
    if fast:
        return "measure without --fast: a first look never decides"
    longer = "with a larger --budget" if budget_s is None else f"with --budget {2 * budget_s:g}"
    return fitting(
        f"measure longer, {longer}, or on a quieter machine; deploy calibrate says how small a difference it shows"
    )


def _counted(backends: Sequence[BackendAnswer]) -> str:
    """Count the verdicts: ``"faster on 1, slower on 1 of 2"``."""
    rows = [row for row in backends if row.verdict in _ORDER]
    if not rows:
        return "nothing was measured"
    if len(rows) == 1:
        return f"{_word(rows[0])} on {rows[0].place}"
    counts = Counter(_word(row) for row in sorted(rows, key=lambda row: _ORDER.index(row.verdict)))
    return f"{', '.join(f'{word} on {n}' for word, n in counts.items())} of {len(rows)}"


def _word(row: BackendAnswer) -> str:
    if row.verdict == "equivalent":
        return f"no difference of {percent(row.margin or 0)}"
    return "not decided" if row.verdict == "inconclusive" else row.verdict
