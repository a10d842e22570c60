"""Accuracy before and after, and whether it fell. Pure functions of scores and counts."""

from __future__ import annotations

import math

from benchmarks.stats.binomial import lower_tail
from deploy.report.answer.records import ScoreChange, ScoreVerdict
from deploy.results.results import ModelRow, Results
from deploy.sources.metric import Metric

__all__ = ["SLACK", "is_chance", "is_lost", "score_change_of", "score_verdict"]

SLACK: dict[Metric, float] = {"accuracy": 0.001, "psnr": 0.01}
"""0.1 points, 0.01 dB: larger differences in the score of a compiled model are reported."""

_ERROR = 0.05
"""Accepted probability of taking a guessing network for one that does not guess."""
_NORMAL = 1.96
"""Two-sided 95 % of the normal distribution."""


def is_chance(score: float, n_examples: int, n_classes: int) -> bool:
    """Return whether uniform random guessing reaches this accuracy in 5 % of cases or more.

    Parameters
    ----------
    score : float
        Share of right answers.
    n_examples : int
        1 or more.
    n_classes : int
        2 or more.

    Examples
    --------
    >>> is_chance(0.26, 300, 4), is_chance(0.35, 300, 4)
    (True, False)
    """
    right = round(score * n_examples)
    return right == 0 or 1 - lower_tail(right - 1, n_examples, 1 / n_classes) >= _ERROR


def score_verdict(
    metric: Metric, before: float | None, after: float | None, n_examples: int | None, n_classes: int | None
) -> ScoreVerdict:
    """Say whether a score fell; empty if that cannot be known.

    "ok" means no drop that a test with this many examples can show: the change is within the 95 % interval of the
    difference of two shares. It is wider than it would be if the two networks' answers were compared one by one.

    Parameters
    ----------
    metric : str
        There is a verdict for accuracy only.
    before, after : float or None
        None: unknown.
    n_examples, n_classes : int or None
        None: unknown.
    """
    if metric != "accuracy" or after is None or not n_examples:
        return ""
    by_chance = n_classes is not None and n_classes > 1 and is_chance(after, n_examples, n_classes)
    if before is None:
        return "at chance" if by_chance else ""
    if by_chance and n_classes is not None:
        return "at chance" if is_chance(before, n_examples, n_classes) else "fell to chance"
    spread = math.sqrt((before * (1 - before) + after * (1 - after)) / n_examples)
    return "fell" if before - after > _NORMAL * spread + 1e-9 else "ok"


def score_change_of(baseline: ModelRow | None, candidate: ModelRow) -> ScoreChange | None:
    """Return the scores of one network, or of two with the same metric; None if the candidate has none."""
    if candidate.score_test is None:
        return None
    comparable = baseline is not None and baseline.metric == candidate.metric
    before = baseline.score_test if baseline is not None and comparable else None
    after, metric = candidate.score_test, candidate.metric
    n_classes = candidate.n_classes or (baseline.n_classes if baseline is not None else None)
    return ScoreChange(
        metric=metric,
        before=before,
        after=after,
        n_examples=candidate.n_test,
        n_classes=n_classes,
        verdict=score_verdict(metric, before, after, candidate.n_test, n_classes),
        on_backends=tuple(
            (backend, score)
            for backend, score in candidate.backend_scores.items()
            if abs(score - after) > SLACK[metric] + 1e-9
        ),
    )


def is_lost(results: Results) -> bool:
    """Return whether the candidate's accuracy is that of guessing; its speed is then meaningless."""
    before = results.models[0] if len(results.models) == 2 else None
    scores = score_change_of(before, results.models[-1])
    return scores is not None and scores.lost
