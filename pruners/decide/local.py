"""Local: keep the same fraction of every group; scores only break ties between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruners.decide.choices import Choices
from pruners.decide.moves import Moves, block_means, moves_by, removed_shares

__all__ = ["local_moves"]


def local_moves(choices: Choices, scores: Mapping[str, Sequence[float]]) -> Moves:
    """Go down the curve ``kept = fraction * n_units``; if groups would step together, the lowest-scored units go first.

    Units are ranked within their group, so scores of different groups hardly need to be comparable.

    Parameters
    ----------
    choices : Choices
        The legal counts; see `pruners.decide.choices.Choices`.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice; low goes first.
    """
    return moves_by(choices, removed_shares(choices), block_means(choices, scores))
