"""Sequential test: decide when enough pairs of processes have been measured, with an exact bound on the error.

One number per pair, log(baseline / candidate), is looked at a few times while pairs are added
(`benchmarks.stats.group_sequential`). Any verdict, at any look, is wrong only if an interval missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import Field, NonNegativeInt

from benchmarks.errors import SettingError
from benchmarks.records.base import Record
from benchmarks.records.measurement import Interval
from benchmarks.stats.group_sequential import InterimAnalyses
from benchmarks.stats.log_ratios import Verdict

__all__ = [
    "Decision",
    "SequentialVerdict",
    "decide",
    "early_end",
]

SequentialVerdict = Verdict | Literal["continue"]


class Decision(Record):
    """Decision based on the pairs so far."""

    verdict: SequentialVerdict
    speedup: Interval | None = Field(
        description="from the look used: baseline over candidate; None before the first look"
    )
    look: NonNegativeInt | None = Field(description="index of the look used; None before the first")
    spent: float = Field(ge=0, lt=1, description="probability that any interval up to this look misses")
    reason: str = Field(description="why, in words")


def decide(ratios: Sequence[float], margin: float, looks: InterimAnalyses, *, strict: bool = False) -> Decision:
    """Return the decision of the first look that decides; later pairs change nothing.

    With L and U the ends of the interval of the log speed-up, and delta = log(1 + margin): *faster* if L > 0 and the
    median >= delta; *slower* if U < 0 and the median <= -delta; *equivalent* if -delta < L and U < delta. Otherwise
    *continue*, and after the last look *inconclusive*.

    Parameters
    ----------
    ratios : sequence of float
        log(baseline / candidate), one per pair, in the order measured.
    margin : float
        Smallest effect that counts, as a share.
    looks : InterimAnalyses
        Looks chosen before the first pair was measured.
    strict : bool, default=False
        For *faster* and *slower*, require the whole interval beyond delta.

    Returns
    -------
    Decision
        The confidence of its interval is that of the whole procedure, 1 - ``looks.error``: it holds wherever the test
        stops.

    Raises
    ------
    SettingError
        A ratio is not finite, or the margin is not between 0 and 1.
    """
    _require_sound(ratios, margin)
    reached = [index for index, (n, _) in enumerate(looks.schedule) if n <= len(ratios)]
    if not reached:
        first = looks.schedule[0][0]
        reason = f"{len(ratios)} of the {first} pairs of the first look"
        return Decision(verdict="continue", speedup=None, look=None, spent=0.0, reason=reason)
    for index in reached:
        low, value, high = _interval(ratios, *looks.schedule[index])
        outcome = _verdict(low, value, high, math.log1p(margin), strict=strict)
        if outcome is not None:
            break
    n = looks.schedule[index][0]
    verdict: SequentialVerdict
    if outcome is not None:
        verdict, reason = outcome, _because(outcome, margin, moved=not low <= 0 <= high, strict=strict)
    elif index + 1 < len(looks.schedule):
        verdict, reason = "continue", f"{n} pairs decide nothing; the next look is at {looks.schedule[index + 1][0]}"
    else:
        verdict, reason = "inconclusive", f"{n} pairs, all that were planned, decide nothing"
    return Decision(
        verdict=verdict,
        speedup=Interval(
            value=math.exp(value), low=math.exp(low), high=math.exp(high), confidence=1 - looks.error, n=n
        ),
        look=index,
        spent=looks.spent[index],
        reason=reason,
    )


def early_end(
    ratios: Sequence[float],
    margin: float,
    looks: InterimAnalyses,
    *,
    budget_s: float,
    seconds_left: float,
    seconds_per_pair: float,
    strict: bool = False,
) -> Decision:
    """Decide like `decide` while another pair fits into the time, else take a last look at all pairs.

    The looks that are skipped leave error unspent. The last look takes the narrowest interval with which the whole
    still spends at most ``looks.error``. This is valid because the clock, not the ratios, ends the measurement.

    Parameters
    ----------
    ratios, margin, looks, strict
        See `decide`.
    budget_s : float
        Total seconds; used only in the message.
    seconds_left, seconds_per_pair : float
        Seconds left, and expected seconds of the next pair.

    Returns
    -------
    Decision
        ``"continue"`` only if another pair fits.

    Raises
    ------
    SettingError
        See `decide`.
    """
    decision = decide(ratios, margin, looks, strict=strict)
    if decision.verdict != "continue" or seconds_left >= seconds_per_pair:
        return decision
    n = len(ratios)
    ended = f"the budget of {budget_s:g} s ended after {n} pair{'' if n == 1 else 's'}"
    shortened = looks.shortened(n)
    if shortened is None:
        return decision.model_copy(update={"verdict": "inconclusive", "reason": ended})
    last = decide(ratios, margin, shortened, strict=strict)
    reason = ended if last.verdict == "inconclusive" else f"{ended}; {last.reason}"
    return last.model_copy(update={"reason": reason})


def _require_sound(ratios: Sequence[float], margin: float = 0.5) -> None:
    for index, ratio in enumerate(ratios):
        if not math.isfinite(ratio):
            raise SettingError(f"the log ratio of pair {index + 1} is {ratio}: not a finite number")
    if not 0 < margin < 1:
        raise SettingError(f"margin must lie between 0 and 1, got {margin}")


def _interval(ratios: Sequence[float], n: int, order: int) -> tuple[float, float, float]:
    ordered = sorted(ratios[:n])
    return ordered[order - 1], median(ordered), ordered[n - order]


def _verdict(low: float, value: float, high: float, delta: float, *, strict: bool) -> Verdict | None:
    if low > delta if strict else (low > 0 and value >= delta):
        return "faster"
    if high < -delta if strict else (high < 0 and value <= -delta):
        return "slower"
    if -delta < low and high < delta:
        return "equivalent"
    return None


def _because(verdict: Verdict, margin: float, *, moved: bool, strict: bool) -> str:
    percent = f"{100 * margin:.3g} %"
    if verdict == "equivalent":
        real = "; there is a difference, too small to count" if moved else ""
        return f"the whole interval lies within {percent} of no difference{real}"
    if strict:
        return f"the whole interval is {verdict} by more than {percent}"
    return f"the whole interval is {verdict}, its median by at least {percent}"
