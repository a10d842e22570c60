"""Scores that rank plans by the share of units they keep, whatever the weights."""

from __future__ import annotations

from math import sqrt

from pruners.decide.choices import Choices

__all__ = ["kept_share_scores"]


def kept_share_scores(choices: Choices) -> dict[str, list[float]]:
    """Return scores whose sum ranks plans as `benchmarks.tables.importance.importance_of` does.

    The first units of a group count most. Groups that can lose no single unit have scores, too, as all their units go
    with a residual block.
    """
    whole = choices.whole
    return {
        name: [sqrt((unit + 1) / whole[name]) - sqrt(unit / whole[name]) for unit in range(whole[name])]
        for name in whole
    }
