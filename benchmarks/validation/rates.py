"""What came out of many comparisons, and its table."""

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
    """What came out of many comparisons of one kind.

    Parameters
    ----------
    procedure, where : str
        What was done, and on which machine or from which pairs.
    slowdown : float
        True, as a share.
    margin : float
        Smallest effect that counts, as a share.
    verdicts : Mapping of str to int
        How often each was given.
    spread : float or None
        Of one pair's log ratio (1.4826 x median absolute deviation); None where there are no pairs.
    covered : float or None
        Share of the intervals that hold the true speed-up; None where there are none.
    pairs, seconds : float or None
        Until the verdict, on average; None where not known.
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
        """How many comparisons there were."""
        return sum(self.verdicts.values())

    @property
    def found(self) -> float:
        """Share that says slower."""
        return self.verdicts.get("slower", 0) / self.runs

    @property
    def wrong(self) -> float:
        """Share of verdicts that contradict the truth.

        *Faster*, *slower* where nothing differs, *equivalent* where the change is beyond the margin.
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
    """Sum up sequential decisions.

    Parameters
    ----------
    procedure, where, slowdown, margin
        See `Rates`.
    decisions : sequence of Decision
        One per comparison; of each the interval of a look.
    ratios : sequence of float
        log(baseline / candidate) of the pairs behind them, whichever comparison they belong to.
    seconds_per_pair : sequence of float
        One per comparison; empty where not known.
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
    """Return the line of a table."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    equivalent = sum(rates.verdicts.get(word, 0) for word in ("equivalent", "same")) / rates.runs
    shares = (rates.slowdown, rates.wrong, rates.found, equivalent, rates.spread, rates.covered)
    cells = (*map(share, shares), number(rates.pairs), number(rates.seconds))
    return f"{rates.procedure:12} {rates.where:9}" + "".join(f"{cell:>10}" for cell in cells) + "\n"
