"""How long and how often is measured, and how calls are shared out over blocks. Pure numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.errors import SettingError
from benchmarks.warmup import WarmUpLimits

__all__ = ["BlockPlan", "Settings", "plan_blocks"]

_MIN_ROUNDS = 3
_MIN_CALLS = 5
_MAX_CALLS = 256  # samples are kept raw: this bounds the size of a result
_HAND_OVER_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a measurement is made.

    Parameters
    ----------
    trials : int, default=6
        Fresh processes per model; in a comparison, pairs of them. Six are the fewest that give a 95 % interval.
    rounds : int, default=16
        Blocks per trial, at most; fewer where the budget is short.
    block_ns : int, default=30 ms
        Nanoseconds that a block should last; it has at least 5 calls where the budget allows that.
    budget_s : float, default=20.0
        Seconds of timed calls of the whole measurement or comparison. Starting and warming up comes on top. A model so
        slow that the smallest sound schedule (3 rounds of one call) takes longer is measured by that schedule.
    warm_up : WarmUpLimits
        See there.
    margin : float, default=0.03
        Smallest effect that counts, as a share.
    seed : int, default=0
        Of inputs made up and of the order in which is measured.
    timeout_s : float, default=600.0
        Seconds in which a measured process must answer any one question (compiling is the longest).
    """

    trials: int = 6
    rounds: int = 16
    block_ns: int = 30_000_000
    budget_s: float = 20.0
    warm_up: WarmUpLimits = field(default_factory=WarmUpLimits)
    margin: float = 0.03
    seed: int = 0
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise SettingError(f"trials must be at least 1, got {self.trials}")
        if self.rounds < _MIN_ROUNDS:
            raise SettingError(f"rounds must be at least {_MIN_ROUNDS}, got {self.rounds}")
        if self.block_ns < 1:
            raise SettingError(f"block_ns must be positive, got {self.block_ns}")
        if not self.budget_s > 0:
            raise SettingError(f"budget_s must be positive, got {self.budget_s}")
        if not 0 < self.margin < 1:
            raise SettingError(f"margin must lie between 0 and 1, got {self.margin}")
        if not self.timeout_s > 0:
            raise SettingError(f"timeout_s must be positive, got {self.timeout_s}")


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What one trial does.

    Parameters
    ----------
    rounds : int
        Blocks of each model.
    calls : tuple of int
        Timed calls in a block, for each model.
    dropped : tuple of int
        Calls before them that are not counted: the first after a hand-over finds cold caches and sleeping threads.
    """

    rounds: int
    calls: tuple[int, ...]
    dropped: tuple[int, ...]


def plan_blocks(latencies_ns: Sequence[float], settings: Settings) -> BlockPlan:
    """Share the budget out over rounds and calls.

    Parameters
    ----------
    latencies_ns : sequence of float
        Nanoseconds of one warm call, for each model that is measured in turn.
    settings : Settings
        See there.
    """
    budget_ns = 1e9 * settings.budget_s / settings.trials
    dropped = tuple(min(_MAX_CALLS, max(1, math.ceil(_HAND_OVER_NS / ns))) for ns in latencies_ns)

    def round_ns(calls: Sequence[int]) -> float:
        return sum((n + d) * ns for n, d, ns in zip(calls, dropped, latencies_ns, strict=True))

    calls = tuple(min(_MAX_CALLS, max(_MIN_CALLS, math.ceil(settings.block_ns / ns))) for ns in latencies_ns)
    while max(calls) > 1 and _MIN_ROUNDS * round_ns(calls) > budget_ns:
        # Fewer calls everywhere, down to one: a slow model keeps its rounds, on which the pairing rests.
        calls = tuple(max(1, n - 1 if n <= _MIN_CALLS else n // 2) for n in calls)
    rounds = min(settings.rounds, max(_MIN_ROUNDS, math.floor(budget_ns / round_ns(calls))))
    return BlockPlan(rounds, calls, dropped)
