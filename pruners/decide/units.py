"""Which units a group keeps, given how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["top_units"]


def top_units(scores: Mapping[str, Sequence[float]], counts: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Keep the highest-scored units of each group; among equal scores, the first.

    Parameters
    ----------
    scores : Mapping of str to sequence of float
        One number per unit of every group in `counts`.
    counts : Mapping of str to int
        How many units of each group are kept.

    Returns
    -------
    dict of str to tuple of int
        Kept units, ascending.

    Examples
    --------
    >>> top_units({"conv1": [0.5, 2.0, 1.0, 2.0]}, {"conv1": 2})
    {'conv1': (1, 3)}
    """
    kept = {}
    for name, count in counts.items():
        values = scores[name]
        best = sorted(range(len(values)), key=lambda unit: (-values[unit], unit))[:count]
        kept[name] = tuple(sorted(best))
    return kept
