"""Search for the highest rate that meets a bound: bracket it, bisect the bracket, retry the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from benchmarks.errors import SettingError

__all__ = ["Found", "Outcome", "highest_rate"]

_GROWTH = 1.5


class Outcome(Protocol):
    """Result of a probe: at least whether the bound holds."""

    @property
    def holds(self) -> bool:
        """Whether the rate holds the bound."""


OutcomeT = TypeVar("OutcomeT", bound=Outcome)


@dataclass(frozen=True, slots=True)
class Found(Generic[OutcomeT]):
    """Result of a search.

    Parameters
    ----------
    probes : tuple of (float, Outcome)
        Rates per second in the order in which they were tried, each with its outcome.
    ended : {"resolved", "probes", "time", "one rate"}
        Why the search ended: the bracket is as narrow as requested and its lower end held twice; the maximum number of
        probes was made; the next would have ended too late; only one rate was tested.
    """

    probes: tuple[tuple[float, OutcomeT], ...]
    ended: Literal["resolved", "probes", "time", "one rate"]

    @classmethod
    def of_one(cls, rate_per_s: float, outcome: OutcomeT) -> Found[OutcomeT]:
        """Wrap a single probe."""
        return cls(((rate_per_s, outcome),), "one rate")

    @property
    def failed_per_s(self) -> float | None:
        """The lowest rate that did not hold, per second; None if all held."""
        return _bracket(self.probes)[1]

    @property
    def held_per_s(self) -> float | None:
        """The highest rate that held below the lowest that did not, per second; None if there is none."""
        return _bracket(self.probes)[0]


def highest_rate(
    probe: Callable[[float], OutcomeT],
    start_per_s: float,
    *,
    resolution: float = 0.02,
    max_probes: int = 24,
    affordable: Callable[[float], bool] = lambda _: True,
) -> Found[OutcomeT]:
    """Search for the highest rate that holds.

    From the start, the rate is multiplied or divided by 1.5 until one rate held and one failed; then the bracket is
    bisected (on a logarithmic scale) until its ends are within the resolution. A probe is only a sample, so the lower
    end is tried again; if it then fails, it becomes the new upper end and the search continues below. So the answer
    held twice, and neither it nor any lower rate failed.

    Parameters
    ----------
    probe : callable
        Tries a rate per second.
    start_per_s : float
        First rate.
    resolution : float, default=0.02
        In (0, 1): the lowest rate that failed is within this share of the highest that held.
    max_probes : int, default=24
        Maximum number of probes, at least 1.
    affordable : callable, optional
        Called with the next rate; False ends the search. The first probe is always made.

    Raises
    ------
    SettingError
        An argument is out of its range.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> found = highest_rate(lambda rate: SimpleNamespace(holds=rate <= 70), 10.0, resolution=0.01)
    >>> found.ended, round(found.held_per_s), round(found.failed_per_s)
    ('resolved', 70, 70)
    """
    if not 0 < start_per_s < math.inf:
        raise SettingError(f"a search starts at a positive rate, got {start_per_s}")
    if not 0 < resolution < 1:
        raise SettingError(f"the resolution of a search lies between 0 and 1, got {resolution}")
    if max_probes < 1:
        raise SettingError(f"a search makes at least 1 probe, got {max_probes}")
    probes: list[tuple[float, OutcomeT]] = []
    rate: float | None = start_per_s
    while rate is not None:
        if len(probes) == max_probes:
            return Found(tuple(probes), "probes")
        if probes and not affordable(rate):
            return Found(tuple(probes), "time")
        probes.append((rate, probe(rate)))
        rate = _next_rate(probes, resolution)
    return Found(tuple(probes), "resolved")


def _bracket(probes: list[tuple[float, OutcomeT]] | tuple[tuple[float, OutcomeT], ...]) -> tuple[float | None, ...]:
    failed = min((rate for rate, outcome in probes if not outcome.holds), default=None)
    held = max((rate for rate, outcome in probes if outcome.holds and (failed is None or rate < failed)), default=None)
    return held, failed


def _next_rate(probes: list[tuple[float, OutcomeT]], resolution: float) -> float | None:
    held, failed = _bracket(probes)
    if held is None:
        assert failed is not None
        return failed / _GROWTH
    if failed is None:
        return held * _GROWTH
    if failed > held * (1 + resolution):
        return math.sqrt(held * failed)
    return held if sum(rate == held for rate, _ in probes) < 2 else None
