"""`Moves`: the order in which a decision shrinks the groups, one legal step at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruners.decide.choices import Choices

__all__ = ["Moves", "ascending_scores", "block_means", "moves_by", "removed_shares", "within_classes"]

Numbers = NDArray[np.int64]
Keys = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moves:
    """Steps from the present sizes down to the smallest legal counts, in the order they are made.

    Parameters
    ----------
    choices : Choices
        What may be decided.
    group, before, after : ndarray of int, one entry a move
        Move ``i`` takes the group at index ``group[i]`` in ``choices.legal`` from count ``before[i]`` to the next legal
        count, ``after[i]``. The moves of one group come in descending order of counts.
    n_forced : int
        Number of first moves that bring each forced group to its largest legal count; they are never undone.
    """

    choices: Choices
    group: Numbers
    before: Numbers
    after: Numbers
    n_forced: int

    def __len__(self) -> int:
        return len(self.group)

    def counts(self, n_moves: int) -> dict[str, int]:
        """Return the counts after the first `n_moves` moves."""
        counts = np.array(list(self.choices.whole.values()), dtype=np.int64)
        np.minimum.at(counts, self.group[:n_moves], self.after[:n_moves])
        return dict(zip(self.choices.legal, counts.tolist(), strict=True))

    def within(self, max_removed: int | None) -> int:
        """Return how many of the first moves remove at most `max_removed` units in total; at least one."""
        if max_removed is None:
            return len(self)
        removed = np.cumsum(self.before - self.after)
        return max(min(1, len(self)), int(np.searchsorted(removed, max_removed, side="right")))

    def upwards(self, n_moves: int) -> Iterable[tuple[str, int, int]]:
        """Yield (group, count, next larger count) of the first `n_moves` moves, last first, without the forced ones."""
        names = list(self.choices.legal)
        chosen = slice(self.n_forced, n_moves)
        steps = zip(self.group[chosen], self.after[chosen], self.before[chosen], strict=True)
        for group, after, before in reversed(list(steps)):
            yield names[group], int(after), int(before)


def moves_by(choices: Choices, keys: Mapping[str, Keys], ties: Mapping[str, Keys] | None = None) -> Moves:
    """Sort the moves of all groups in ascending order of their keys.

    Parameters
    ----------
    choices : Choices
        The legal counts; see `pruners.decide.choices.Choices`.
    keys : Mapping of str to ndarray of float
        One number for each move of each group with more than one legal count, first move first. Within a group a key
        counts as no less than those before it, so that its moves keep their order.
    ties : Mapping of str to ndarray of float, optional
        Numbers of the same form that break ties between keys. Moves equal in both are ordered so that every group loses
        about the same share of its units, then in the order of the groups.
    """
    groups = [(order, name, legal) for order, (name, legal) in enumerate(choices.legal.items()) if len(legal) > 1]
    group = _joined([np.full(len(legal) - 1, order) for order, _, legal in groups])
    before = _joined([legal[:0:-1] for _, _, legal in groups])
    after = _joined([legal[-2::-1] for _, _, legal in groups])
    share_left = after / _sizes(choices)[group]
    ranks = [_rising(keys, groups), _rising(ties, groups) if ties else np.zeros(len(group))]
    order = np.lexsort((group, -share_left, ranks[1], ranks[0]))
    forced = [(i, name) for i, name in enumerate(choices.legal) if name in choices.forced]
    return Moves(
        choices,
        np.concatenate([_joined([[i for i, _ in forced]]), group[order]]),
        np.concatenate([_joined([[choices.forced[name] for _, name in forced]]), before[order]]),
        np.concatenate([_joined([[choices.legal[name][-1] for _, name in forced]]), after[order]]),
        len(forced),
    )


def block_means(choices: Choices, scores: Mapping[str, Sequence[float]]) -> dict[str, Keys]:
    """Return the mean score of the units that each move removes, lowest units first.

    Raises
    ------
    ValueError
        A group's numbers of scores and units differ.
    """
    means = {}
    for name, legal in choices.legal.items():
        if len(legal) > 1:
            ascending = ascending_scores(choices, scores, name)
            size = len(ascending)
            edges = size - np.array(legal[::-1])
            means[name] = np.add.reduceat(ascending[: size - legal[0]], edges[:-1]) / np.diff(edges)
    return means


def ascending_scores(choices: Choices, scores: Mapping[str, Sequence[float]], name: str) -> Keys:
    """Return the scores of the present units of group `name`, lowest first.

    Raises
    ------
    ValueError
        The group's numbers of scores and units differ.
    """
    values = np.sort(np.asarray(scores[name], dtype=np.float64))
    size = choices.forced.get(name, choices.legal[name][-1])
    if len(values) != size:
        raise ValueError(f"group {name!r} has {size} units but {len(values)} scores")
    return values


def removed_shares(choices: Choices) -> dict[str, Keys]:
    """Return for each move the removed share of the group from which the smaller legal count is the nearest."""
    whole = choices.whole
    return {
        name: 1.0 - (np.array(legal[:0:-1]) + np.array(legal[-2::-1])) / (2.0 * whole[name])
        for name, legal in choices.legal.items()
        if len(legal) > 1
    }


def within_classes(moves: Moves, classes: Iterable[Collection[str]]) -> Moves:
    """Reorder the moves so that every class loses the same share of its units; each class keeps its own order.

    Parameters
    ----------
    moves : Moves
        In the order in which they would be made; forced moves stay first.
    classes : iterable of collection of str
        Names of groups; each group of the choices is in one class. Names that are not in the choices are ignored.

    Raises
    ------
    ValueError
        A group is in no class, or in two.
    """
    owner: dict[str, int] = {}
    for index, names in enumerate(classes):
        for name in names:
            if owner.setdefault(name, index) != index:
                raise ValueError(f"group {name!r} is in two classes")
    missing = next((name for name in moves.choices.legal if name not in owner), None)
    if missing is not None:
        raise ValueError(f"group {missing!r} is in no class")
    of_group = np.array([owner[name] for name in moves.choices.legal], dtype=np.int64)
    free = slice(moves.n_forced, None)
    class_of_move = of_group[moves.group[free]]
    removed = (moves.before - moves.after)[free]
    keys = np.zeros(len(class_of_move))
    for index in np.unique(class_of_move):
        own = class_of_move == index
        units = _sizes(moves.choices)[of_group == index].sum()
        keys[own] = (np.cumsum(removed[own]) - removed[own] / 2) / units
    order = np.concatenate([np.arange(moves.n_forced), moves.n_forced + np.argsort(keys, kind="stable")])
    return Moves(moves.choices, moves.group[order], moves.before[order], moves.after[order], moves.n_forced)


def _sizes(choices: Choices) -> Numbers:
    return np.array(list(choices.whole.values()), dtype=np.int64)


def _joined(parts: Sequence[Sequence[int] | Numbers]) -> Numbers:
    return np.concatenate([np.zeros(0, dtype=np.int64), *(np.asarray(part, dtype=np.int64) for part in parts)])


def _rising(values: Mapping[str, Keys], groups: Sequence[tuple[int, str, tuple[int, ...]]]) -> Keys:
    return np.concatenate([np.zeros(0), *(np.maximum.accumulate(values[name]) for _, name, _ in groups)])
