"""The baseline: random scores."""

from __future__ import annotations

from random import Random
from typing import ClassVar

from pruners.importance.criterion import Criterion
from pruners.importance.evidence import Evidence
from pruners.importance.reduce import MemberScores

__all__ = ["RandomScores"]


class RandomScores(Criterion):
    """Draw a score for each unit uniformly from [0, 1): the baseline that every criterion has to beat.

    Scores depend on the seed and the group's name, not on which other groups are scored.
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "baseline, no paper"

    def _member_scores(self, evidence: Evidence) -> MemberScores:
        scores: MemberScores = {}
        for group in evidence.channel_groups:
            draw = Random(f"{evidence.seed} {group.name}")
            scores[group.name] = (tuple(draw.random() for _ in range(group.n_units)),)
        return scores
