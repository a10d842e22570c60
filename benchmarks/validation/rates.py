"""Verdict rates of many comparisons, and their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.stats.sequential_test import Decision
from benchmarks.stats.summary import robust_deviation

__all__ = ["HEAD", "Rates", "rates_of", "row"]

HEAD = (
    f"{'procedure':12} {'where':9}"
    + "".join(
        f"{name:>10}" for name in ("slowdown", "wrong", "found", "no change", "spread", "covered", "pairs", "seconds")
    )
    + "\n"
)
"""Heading of the table of `row`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Verdict rates of many comparisons of one kind.

    Parameters
    ----------
    procedure, where : str
        Procedure, and the machine or pairs it used.
    slowdown : float
        True slow-down, as a share.
    margin : float
        Smallest effect that counts, as a share.
    verdicts : Mapping of str to int
        How often each verdict was given.
    spread : float or None
        Spread of one pair's log ratio (1.4826 x median absolute deviation); None without pairs.
    covered : float or None
        Share of the intervals that contain the true speed-up; None without intervals.
    pairs, seconds : float or None
        Average until the verdict; None if unknown.
    """

    procedure: str
    where: str
    slowdown: float
    margin: float
    verdicts: Mapping[str, int]
    spread: float | None = None
    covered: float | None = None
    pairs: float | None = None
    seconds: float | None = None

    @property
    def runs(self) -> int:
        """Number of comparisons."""
        return sum(self.verdicts.values())

    @property
    def found(self) -> float:
        """Share of *slower* verdicts."""
        return self.verdicts.get("slower", 0) / self.runs

    @property
    def wrong(self) -> float:
        """Share of verdicts that contradict the truth.

        *Faster*, *slower* if nothing differs, *equivalent* if the change is beyond the margin.
        """
        wrong = {"faster"} | ({"slower"} if self.slowdown == 0 else set())
        if self.slowdown > self.margin:
            wrong |= {"equivalent", "same"}
        return sum(n for verdict, n in self.verdicts.items() if verdict in wrong) / self.runs


def rates_of(
    procedure: str,
    where: str,
    slowdown: float,
    margin: float,
    *,
    decisions: Sequence[Decision],
    ratios: Sequence[float],
    seconds_per_pair: Sequence[float],
) -> Rates:
    """Summarise sequential decisions.

    Parameters
    ----------
    procedure, where, slowdown, margin
        See `Rates`.
    decisions : sequence of Decision
        One per comparison, each with the interval of a look.
    ratios : sequence of float
        log(baseline / candidate) of all pairs behind them.
    seconds_per_pair : sequence of float
        One per comparison; empty if unknown.
    """
    speedups = [decision.speedup for decision in decisions if decision.speedup is not None]
    truth = 1 / (1 + slowdown)
    return Rates(
        procedure=procedure,
        where=where,
        slowdown=slowdown,
        margin=margin,
        verdicts=dict(Counter(decision.verdict for decision in decisions)),
        spread=robust_deviation(ratios),
        covered=fmean(speedup.low <= truth <= speedup.high for speedup in speedups),
        pairs=fmean(speedup.n for speedup in speedups),
        seconds=fmean(s.n * each for s, each in zip(speedups, seconds_per_pair, strict=True))
        if seconds_per_pair
        else None,
    )


def row(rates: Rates) -> str:
    """Return one line of the table."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    equivalent = sum(rates.verdicts.get(word, 0) for word in ("equivalent", "same")) / rates.runs
    shares = (rates.slowdown, rates.wrong, rates.found, equivalent, rates.spread, rates.covered)
    cells = (*map(share, shares), number(rates.pairs), number(rates.seconds))
    return f"{rates.procedure:12} {rates.where:9}" + "".join(f"{cell:>10}" for cell in cells) + "\n"
