"""`Budget`: a cost that a decision lands at or below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from pruners.decide.choices import Choices
from pruners.decide.latency import LatencyModel
from pruners.errors import TargetError

__all__ = ["Budget", "stays_whole"]

_NAMED = 3
"""Layers that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cost of kept counts, and the most that it may be.

    Parameters
    ----------
    cost : callable
        ``cost(counts)`` of a whole network whose groups keep `counts` units; groups that are not named are whole.
        Does not fall when a count grows.
    limit : float
        In the unit of `cost`.
    of : str
        What is counted, as a user calls it.
    tolerance : float
        A decision that lands below the limit by less than this share of the dense cost has landed on it.
    dense_cost : float, optional
        Cost of the whole network where that is not ``cost({})``: blocks are left out in every `cost`.
    latency : LatencyModel, optional
        What `cost` comes from, where it is a predicted time.
    whole : Mapping of str to str, optional
        Layers that stay whole, and why; the largest first.
    """

    cost: Callable[[Mapping[str, int]], float]
    limit: float
    of: str
    tolerance: float = 0.01
    dense_cost: float | None = None
    latency: LatencyModel | None = None
    whole: Mapping[str, str] = field(default_factory=dict)

    def met(self, counts: Mapping[str, int]) -> bool:
        """Return whether `counts` cost no more than the limit."""
        return self.cost(counts) <= self.limit

    @property
    def dense(self) -> float:
        """Cost of the whole network."""
        return self.cost({}) if self.dense_cost is None else self.dense_cost

    def slack(self, counts: Mapping[str, int]) -> float:
        """Return how far below the limit `counts` cost, as a share of the dense cost; negative above it."""
        return (self.limit - self.cost(counts)) / self.dense

    def landed(self, counts: Mapping[str, int]) -> bool:
        """Return whether `counts` cost no more than the limit, and less by no more than the tolerance."""
        return 0 <= self.slack(counts) < self.tolerance

    def require_reachable(self, choices: Choices) -> None:
        """Check that the smallest legal network meets the limit.

        Raises
        ------
        TargetError
            It does not; the message says how far one can get.
        """
        least, dense = self.cost(choices.floor), self.dense
        if least > self.limit and self.latency is not None:
            raise TargetError(
                f"{dense / self.limit:.2f}x the speed on {self.latency.backend} was asked for, but with every group at "
                f"its smallest legal count {dense / least:.2f}x is reached; ask for less than that, or loosen exclude, "
                "multiple_of, min_units, min_fraction, bounds, exact_only"
            )
        if least > self.limit:
            raise TargetError(
                f"{self.of}: at most {self.limit / dense:.4g} of the dense network was asked for, but with every group "
                f"at its smallest legal count {least / dense:.4g} is left; ask for more than that, or loosen exclude, "
                f"multiple_of, min_units, min_fraction, bounds, exact_only{stays_whole(self.whole)}"
            )


def stays_whole(whole: Mapping[str, str]) -> str:
    """Name the largest layers that stay whole, and why, as the end of a message; empty where there are none."""
    if not whole:
        return ""
    named = [f"{layer!r} ({reason})" for layer, reason in islice(whole.items(), _NAMED)]
    rest = f" and {len(whole) - _NAMED} more" if len(whole) > _NAMED else ""
    return f"; whole stay {', '.join(named)}{rest}"
