"""Local: the same fraction of every group, the scores deciding only who takes the odd step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pruners.decide.choices import Choices
from pruners.decide.moves import Moves, block_means, moves_by, removed_shares

__all__ = ["local_moves"]


def local_moves(choices: Choices, scores: Mapping[str, Sequence[float]]) -> Moves:
    """Go down the curve ``kept = fraction * n_units``; of groups that would step at once the lowest-scored units go.

    Which units a group keeps is by rank within it, so that scores of different groups hardly have to compare.

    Parameters
    ----------
    choices : Choices
        What may be decided; see `pruners.decide.choices.Choices`.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice; low goes first.
    """
    return moves_by(choices, removed_shares(choices), block_means(choices, scores))
