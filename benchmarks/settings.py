"""How long and how often is measured, and how calls are shared out over blocks. Pure numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.errors import SettingError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.stats.group_sequential import InterimAnalyses

__all__ = ["NOT_A_VERDICT", "BlockPlan", "Settings", "plan_blocks"]

NOT_A_VERDICT = "not a verdict: measured with --fast"
"""Why a quick measurement decides nothing."""

_MIN_ROUNDS = 3
_MIN_CALLS = 4
_MAX_CALLS = 256  # samples are kept raw: this bounds the size of a result
_HAND_OVER_NS = 1_000_000
_USUAL_TRIALS = 8
# Starting, compiling and warming up a process takes the rest of a trial.
_TIMED_SHARE = 0.6
_CALL_GRACE_S = 30.0
"""A process starts and reads the model in it, whatever the budget."""
_QUICK_TRIALS = 2
_QUICK_BUDGET_S = 10.0
_QUICK_BLOCK_NS = 1_000_000
_QUICK_WARM_UP_NS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a measurement is made.

    Parameters
    ----------
    trials : int or None, default=None
        Fresh processes per model; in a comparison, pairs of them. None: as many as the answer needs within the budget
        (see `benchmarks.stopping`).
    budget_s : float, default=60.0
        Seconds from the first process to the last, of a measurement or a comparison. When they have passed no further
        trial is started; a comparison has at least two. A model so slow that the smallest sound schedule (3 rounds of
        one call) takes longer is measured by that schedule.
    rounds : int, default=12
        Blocks per trial, at most; fewer where the budget is short.
    block_ns : int, default=20 ms
        Nanoseconds that a block should last; it has at least 4 calls where the budget allows that.
    warm_up : WarmUpLimits
        How long warming up may and must take.
    margin : float, default=0.03
        Smallest effect that counts, as a share.
    strict : bool, default=False
        Ask that the whole interval, not its middle, lies beyond the margin before "faster" or "slower" is said.
    percentile : float, default=0.5
        Of a model measured alone: which percentile is to be known well, as a share.
    half_width : float, default=0.02
        How well: half the width of its interval, as a share of it.
    cold : bool, default=False
        Also tell what compiling costs, with and without what was compiled before.
    seed : int, default=0
        Of inputs made up and of the order in which is measured.
    timeout_s : float, default=600.0
        Seconds in which a measured process must answer any one question (compiling is the longest).
    check : bool, default=True
        Whether answers are compared with a reference before anything is timed.
    analyses : InterimAnalyses
        When the pairs of a comparison are looked at; several comparisons that are judged together share one error.
    provisional : bool, default=False
        The budget is a share of a larger one: what it leaves undecided goes on later, and the looks at its end are
        those of `analyses` and no other.
    fast : bool, default=False
        The numbers are a first look: a comparison is never decided. See `quick`.
    """

    trials: int | None = None
    budget_s: float = 60.0
    rounds: int = 12
    block_ns: int = 20_000_000
    warm_up: WarmUpLimits = field(default_factory=WarmUpLimits)
    margin: float = 0.03
    strict: bool = False
    percentile: float = 0.5
    half_width: float = 0.02
    cold: bool = False
    seed: int = 0
    timeout_s: float = 600.0
    check: bool = True
    analyses: InterimAnalyses = field(default_factory=InterimAnalyses)
    provisional: bool = False
    fast: bool = False

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise SettingError(f"trials must be at least 1, got {self.trials}")
        if self.rounds < _MIN_ROUNDS:
            raise SettingError(f"rounds must be at least {_MIN_ROUNDS}, got {self.rounds}")
        if self.block_ns < 1:
            raise SettingError(f"block_ns must be positive, got {self.block_ns}")
        if not 0 < self.budget_s < math.inf:
            raise SettingError(f"budget_s must be positive and finite, got {self.budget_s}")
        if self.seed < 0:
            raise SettingError(f"seed must be at least 0, got {self.seed}")
        for name in ("margin", "percentile", "half_width"):
            if not 0 < getattr(self, name) < 1:
                raise SettingError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not self.timeout_s > 0:
            raise SettingError(f"timeout_s must be positive, got {self.timeout_s}")

    @property
    def call_timeout_s(self) -> float:
        """Seconds for a first call, and for a reference's answers: a model that never ends is not waited for."""
        return min(self.timeout_s, self.budget_s + _CALL_GRACE_S)

    def quick(self) -> Settings:
        """Return the same with a short warm-up, few calls and, where none were asked for, two trials: for a first look.

        A comparison made with them is never decided.
        """
        return replace(
            self,
            trials=self.trials or _QUICK_TRIALS,
            budget_s=min(self.budget_s, _QUICK_BUDGET_S),
            rounds=_MIN_ROUNDS,
            block_ns=_QUICK_BLOCK_NS,
            warm_up=WarmUpLimits(min_ns=_QUICK_WARM_UP_NS, max_ns=20 * _QUICK_WARM_UP_NS),
            fast=True,
        )


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
        Budget, trials, rounds and length of a block.
    """
    budget_ns = 1e9 * _TIMED_SHARE * settings.budget_s / (settings.trials or _USUAL_TRIALS)
    dropped = tuple(min(_MAX_CALLS, max(1, math.ceil(_HAND_OVER_NS / ns))) for ns in latencies_ns)

    def round_ns(calls: Sequence[int]) -> float:
        return sum((n + d) * ns for n, d, ns in zip(calls, dropped, latencies_ns, strict=True))

    calls = tuple(min(_MAX_CALLS, max(_MIN_CALLS, math.ceil(settings.block_ns / ns))) for ns in latencies_ns)
    while max(calls) > 1 and _MIN_ROUNDS * round_ns(calls) > budget_ns:
        # Fewer calls everywhere, down to one: a slow model keeps its rounds, on which the pairing rests.
        calls = tuple(max(1, n - 1 if n <= _MIN_CALLS else n // 2) for n in calls)
    rounds = min(settings.rounds, max(_MIN_ROUNDS, math.floor(budget_ns / round_ns(calls))))
    return BlockPlan(rounds, calls, dropped)
