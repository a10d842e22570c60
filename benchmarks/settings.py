"""Settings of a measurement (budget, trials, margin), and the plan of its blocks of calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.errors import SettingError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.stats.group_sequential import InterimAnalyses

__all__ = ["NOT_A_VERDICT", "BlockPlan", "Settings", "plan_blocks"]

NOT_A_VERDICT = "not a verdict: measured with --fast"
"""Reason given for the missing verdict of a quick measurement."""

_MIN_ROUNDS = 3
_MIN_CALLS = 4
_MAX_CALLS = 256  # raw samples are stored: this bounds the size of a result
_HAND_OVER_NS = 1_000_000
_USUAL_TRIALS = 8
# The rest of a trial goes to starting, compiling and warming up the process.
_TIMED_SHARE = 0.6
_CALL_GRACE_S = 30.0
"""Time to start a process and read the model, in addition to the budget."""
_QUICK_TRIALS = 2
_QUICK_BUDGET_S = 10.0
_QUICK_BLOCK_NS = 1_000_000
_QUICK_WARM_UP_NS = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a measurement.

    Parameters
    ----------
    trials : int or None, default=None
        Fresh processes per model; in a comparison, pairs of them. None: as many as the answer needs within the budget
        (see `benchmarks.stopping`).
    budget_s : float, default=60.0
        Seconds from the first process to the last, for a measurement or a comparison. After that no further trial is
        started; a comparison has at least two. A model so slow that the smallest sound schedule (3 rounds of one call)
        takes longer is measured by that schedule.
    rounds : int, default=12
        Maximum blocks per trial; fewer if the budget is short.
    block_ns : int, default=20 ms
        Target duration of a block in nanoseconds; a block has at least 4 calls if the budget allows.
    warm_up : WarmUpLimits
        Minimum and maximum length of the warm-up.
    margin : float, default=0.03
        Smallest effect that counts, as a share.
    strict : bool, default=False
        Require the whole interval, not just its middle, to be beyond the margin for "faster" or "slower".
    percentile : float, default=0.5
        For a model measured alone: the percentile to estimate, as a share.
    half_width : float, default=0.02
        Target precision of that percentile: half the width of its interval, as a share of it.
    cold : bool, default=False
        Also measure the cost of compiling, with and without a stored compilation.
    seed : int, default=0
        Seed of made-up inputs and of the order of measuring.
    timeout_s : float, default=600.0
        Seconds in which a measured process must answer any one request (compiling is the longest).
    check : bool, default=True
        Whether answers are compared with a reference before anything is timed.
    analyses : InterimAnalyses
        When the pairs of a comparison are analysed; several comparisons judged together share one error.
    provisional : bool, default=False
        The budget is a share of a larger one: an undecided comparison continues later, and no look is taken beyond
        those of `analyses` when it ends.
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
        """Time limit in seconds for a first call, and for a reference's answers, so an endless model is stopped."""
        return min(self.timeout_s, self.budget_s + _CALL_GRACE_S)

    def quick(self) -> Settings:
        """Return settings for a first look: a short warm-up, few calls and, by default, two trials.

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
    """Blocks and calls of one trial.

    Parameters
    ----------
    rounds : int
        Blocks per model.
    calls : tuple of int
        Timed calls per block, for each model.
    dropped : tuple of int
        Uncounted calls before them: the first after a hand-over finds cold caches and sleeping threads.
    """

    rounds: int
    calls: tuple[int, ...]
    dropped: tuple[int, ...]


def plan_blocks(latencies_ns: Sequence[float], settings: Settings) -> BlockPlan:
    """Distribute the budget over rounds and calls.

    Parameters
    ----------
    latencies_ns : sequence of float
        Nanoseconds of one warm call, for each model measured in turn.
    settings : Settings
        Budget, trials, rounds and block duration.
    """
    budget_ns = 1e9 * _TIMED_SHARE * settings.budget_s / (settings.trials or _USUAL_TRIALS)
    dropped = tuple(min(_MAX_CALLS, max(1, math.ceil(_HAND_OVER_NS / ns))) for ns in latencies_ns)

    def round_ns(calls: Sequence[int]) -> float:
        return sum((n + d) * ns for n, d, ns in zip(calls, dropped, latencies_ns, strict=True))

    calls = tuple(min(_MAX_CALLS, max(_MIN_CALLS, math.ceil(settings.block_ns / ns))) for ns in latencies_ns)
    while max(calls) > 1 and _MIN_ROUNDS * round_ns(calls) > budget_ns:
        # Reduce calls rather than rounds, down to one: the pairing depends on the rounds.
        calls = tuple(max(1, n - 1 if n <= _MIN_CALLS else n // 2) for n in calls)
    rounds = min(settings.rounds, max(_MIN_ROUNDS, math.floor(budget_ns / round_ns(calls))))
    return BlockPlan(rounds, calls, dropped)
