"""Residual blocks that are removed whole: which may go, and which go before any units."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.patterns import excluded_groups, groups_by_pattern
from pruners.groups import ChannelGroup
from pruners.target import Constraints

__all__ = ["Block", "groups_inside", "held_blocks", "removed_blocks", "without_blocks"]


class Block(Protocol):
    """A residual branch, such as `pruners.channels.residual_blocks.ResidualBlock`."""

    @property
    def name(self) -> str:
        """Path of its module."""

    @property
    def tensors(self) -> frozenset[str]:
        """Parameters and buffers that go with it."""


def held_blocks(blocks: Iterable[Block], groups: tuple[ChannelGroup, ...], constraints: Constraints) -> dict[str, str]:
    """Return which blocks the constraints keep, and because of which group.

    A block is kept if one of its layers must stay whole (``exclude``, with all that share its channels) or has bounds
    on its width (``bounds``). Floors on units (``min_units``, ``min_fraction``) apply to layers that stay.

    Returns
    -------
    dict of str to str
        Name of the block -> name of the group.
    """
    named = set(excluded_groups(groups, constraints.exclude))
    for hits in groups_by_pattern("bounds", constraints.bounds, groups).values():
        named.update(hits)
    held = {}
    for block in blocks:
        for group in groups:
            if group.name in named and any(m.produces and m.path in block.tensors for m in group.members):
                held[block.name] = group.name
                break
    return held


def groups_inside(groups: Iterable[ChannelGroup], blocks: Iterable[Block]) -> frozenset[str]:
    """Return the names of the groups that go with `blocks`: those with all their members inside the blocks."""
    gone = frozenset().union(*(block.tensors for block in blocks))
    return frozenset(group.name for group in groups if all(member.path in gone for member in group.members))


def without_blocks(choices: Choices, inside: Collection[str]) -> Choices:
    """Return the choices that are left without the groups `inside` removed blocks."""
    return Choices(
        {name: legal for name, legal in choices.legal.items() if name not in inside},
        {name: size for name, size in choices.forced.items() if name not in inside},
    )


def removed_blocks(
    scales: Mapping[str, float],
    scores: Mapping[str, Sequence[float]],
    choices: Choices,
    budget: Callable[[Collection[str]], Budget],
) -> tuple[str, ...]:
    """Return which blocks to remove before any units, lowest score first.

    The lowest-scored block goes next, until the units that score below it are enough to meet the budget. A block stays
    if the network without it would land below the budget, since units land closer. If units cannot make up for the
    blocks that stay, more blocks go, lowest first; then removed blocks come back, highest first, while the budget can
    still be met.

    Parameters
    ----------
    scales : Mapping of str to float
        Score of each block that may go.
    scores : Mapping of str to sequence of float
        Scores of the units of each of ``choices.movable``, comparable with those of the blocks.
    choices : Choices
        The legal counts of units.
    budget : callable
        ``budget(removed)``: the budget of the network without these blocks.

    Returns
    -------
    tuple of str
        Lowest score first.
    """
    ascending = sorted(scales, key=lambda name: scales[name])
    removed: list[str] = []
    for name in ascending:
        if budget(removed).met(_counts_above(scales[name], scores, choices)):
            break
        without = budget([*removed, name])
        if not without.met(choices.ceiling) or without.landed(choices.ceiling):
            removed.append(name)
    if not budget(removed).met(choices.floor):
        for name in (name for name in ascending if name not in removed):
            removed.append(name)
            if budget(removed).met(choices.floor):
                break
        for name in sorted(removed, key=lambda name: -scales[name]):
            fewer = [other for other in removed if other != name]
            if budget(fewer).met(choices.floor):
                removed = fewer
    return tuple(name for name in ascending if name in removed)


def _counts_above(scale: float, scores: Mapping[str, Sequence[float]], choices: Choices) -> dict[str, int]:
    """Return the counts without the units that score less than `scale`, as far as is legal."""
    left = {name: sum(value >= scale for value in scores[name]) for name in choices.movable}
    return choices.ceiling | choices.rounded_up(left)
