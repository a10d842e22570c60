"""`Budget`: a limit on a cost that a decision lands at or below."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import floor

from pruners.decide.choices import Choices
from pruners.decide.latency import LatencyModel
from pruners.errors import NothingToPruneError, TargetError

__all__ = ["Budget", "TimeLimit", "nothing_to_prune", "time_budget"]

_NAMED = 3
"""Most layers that a message names."""
_LOOSEN = "exclude, multiple_of, min_units, min_fraction, bounds, exact_only"


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """A limit on the predicted latency of one call.

    Parameters
    ----------
    model : LatencyModel
        Predicts the latency.
    limit_ns : float
        The limit, in nanoseconds.
    dense_ns : float, optional
        Time of the dense network that the limit was asked for as a share of; by default the predicted one.
    gone : Mapping of str to int
        Counts, all 0, of residual blocks that are left out and of the groups that go with them.
    """

    model: LatencyModel
    limit_ns: float
    dense_ns: float | None = None
    gone: Mapping[str, int] = field(default_factory=dict)

    def share(self, counts: Mapping[str, int]) -> float:
        """Return the predicted time as a share of the limit."""
        return self.model.time_ns({**counts, **self.gone}) / self.limit_ns

    @property
    def speed_up(self) -> float:
        """Requested speed-up of the dense network."""
        return (self.dense_ns or self.model.time_ns()) / self.limit_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cost as a function of kept counts, and its limit.

    Parameters
    ----------
    cost : callable
        ``cost(counts)`` of a whole network whose groups keep `counts` units; groups not named are whole. Unless it is
        a time, it does not fall as a count grows.
    limit : float
        In the unit of `cost`.
    of : str
        What is counted, in the user's terms.
    tolerance : float
        A decision that lands below the limit by less than this share of the dense cost has landed on it.
    dense_cost : float, optional
        Cost of the whole network if that is not ``cost({})`` because `cost` always leaves blocks out.
    times : tuple of TimeLimit
        The limits behind `cost` if it is a predicted time: the largest time as a share of its limit.
    whole : Mapping of str to str, optional
        Layers that stay whole, and why; the largest first.
    """

    cost: Callable[[Mapping[str, int]], float]
    limit: float
    of: str
    tolerance: float = 0.01
    dense_cost: float | None = None
    times: tuple[TimeLimit, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)

    def met(self, counts: Mapping[str, int]) -> bool:
        """Return whether `counts` cost no more than the limit."""
        return self.cost(counts) <= self.limit

    @property
    def dense(self) -> float:
        """Cost of the whole network."""
        return self.cost({}) if self.dense_cost is None else self.dense_cost

    @property
    def asked_of(self) -> float:
        """Cost that the target is a share of: that of the whole network, of a time the measured one if it is known."""
        return max((each.speed_up for each in self.times), default=self.dense)

    @property
    def known_blocks(self) -> tuple[str, ...]:
        """Names of the residual blocks whose removal every latency model covers."""
        models = [each.model for each in self.times]
        return tuple(name for name in (models[0].blocks if models else ()) if all(name in m.blocks for m in models))

    def slack(self, counts: Mapping[str, int]) -> float:
        """Return how far below the limit `counts` cost, as a share of the dense cost; negative above it."""
        return (self.limit - self.cost(counts)) / self.dense

    def landed(self, counts: Mapping[str, int]) -> bool:
        """Return whether `counts` cost no more than the limit, and are within the tolerance of it."""
        return 0 <= self.slack(counts) < self.tolerance

    def require_reachable(self, choices: Choices, blocks: Collection[str] = ()) -> None:
        """Check that the smallest legal network meets the limit.

        Parameters
        ----------
        choices : Choices
            The legal counts.
        blocks : collection of str
            Residual blocks that may be removed; the latency models cover them.

        Raises
        ------
        TargetError
            It does not; the message says what can be reached.
        """
        for each in self.times:
            least = each.share({**choices.floor, **each.model.without(blocks)})
            if least > 1:
                highest = floor(100 * each.speed_up / least) / 100
                reached = (
                    f"between 1x and {highest:.2f}x can be reached, the latter with every group at its smallest legal "
                    "count; ask for less than that"
                    if highest > 1
                    else "with every group at its smallest legal count the network is predicted to be no faster than "
                    "the dense one; ask on another backend"
                )
                raise TargetError(
                    f"{each.speed_up:.2f}x the speed on {each.model.backend} was asked for, but {reached}, or loosen "
                    f"{_LOOSEN}{_stays_whole(self.whole)}"
                )
        if self.times:
            return
        least, dense = self.cost(choices.floor), self.dense
        if least > self.limit:
            raise TargetError(
                f"{self.of}: at most {self.limit / dense:.4g} of the dense network was asked for, but with every group "
                f"at its smallest legal count {least / dense:.4g} is left; ask for more than that, or loosen {_LOOSEN}"
                f"{_stays_whole(self.whole)}"
            )


def time_budget(times: Iterable[TimeLimit], whole: Mapping[str, str] | None = None) -> Budget:
    """Return the budget that is met if all time limits are.

    Parameters
    ----------
    times : iterable of TimeLimit
        At least one.
    whole : Mapping of str to str, optional
        Layers that stay whole, and why.
    """
    limits = tuple(times)

    def cost(counts: Mapping[str, int]) -> float:
        return max(each.share(counts) for each in limits)

    dense = max(each.model.time_ns() / each.limit_ns for each in limits)
    return Budget(cost=cost, limit=1.0, of="latency", dense_cost=dense, times=limits, whole=whole or {})


def nothing_to_prune(whole: Mapping[str, str]) -> NothingToPruneError:
    """Return the error of a network none of whose layers can lose a channel; `whole` says why each stays whole."""
    return NothingToPruneError(f"no layer of the network can lose a channel{_stays_whole(whole)}")


def _stays_whole(whole: Mapping[str, str]) -> str:
    """Name the largest layers that stay whole, and why, as the end of a message; empty if there are none."""
    if not whole:
        return ""
    named = [f"{layer!r} ({reason})" for layer, reason in islice(whole.items(), _NAMED)]
    rest = f" and {len(whole) - _NAMED} more" if len(whole) > _NAMED else ""
    return f"; these layers stay whole: {', '.join(named)}{rest}"
