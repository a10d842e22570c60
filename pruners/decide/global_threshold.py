"""Global threshold: remove the units of all groups that score no more than one threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pruners.decide.choices import Choices
from pruners.decide.moves import Moves, ascending_scores, moves_by

__all__ = ["global_moves"]


def global_moves(choices: Choices, scores: Mapping[str, Sequence[float]]) -> Moves:
    """Raise one threshold over all units of all groups; units that score no more than it go.

    Each group goes to the legal count nearest the number of its units above the threshold (the smaller of two equally
    near ones). Units with equal scores would go together; they go one by one instead, in equal shares from all groups.

    Parameters
    ----------
    choices : Choices
        The legal counts; see `pruners.decide.choices.Choices`.
    scores : Mapping of str to sequence of float
        One number per present unit of each group with a choice, comparable between groups; low goes first.
    """
    keys = {}
    for name, legal in choices.legal.items():
        if len(legal) > 1:
            ascending = ascending_scores(choices, scores, name)
            middles = (np.array(legal[:0:-1]) + np.array(legal[-2::-1])) // 2
            # With `middle` units above the threshold the smaller count is nearest: the last unit to go sets the key.
            keys[name] = ascending[len(ascending) - middles - 1]
    return moves_by(choices, keys)
