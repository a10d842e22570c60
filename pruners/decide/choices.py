"""The legal kept counts of each free group, after exclusions, floors and alignment."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor, gcd, lcm

from pruners.decide.patterns import excluded_groups, groups_by_pattern, groups_by_ratio, listed, producers
from pruners.errors import NothingToPruneError, SelectorError, TargetError
from pruners.groups import ChannelGroup
from pruners.target import Constraints

__all__ = ["Choices", "choices_of", "excluded_groups", "groups_by_ratio", "producers"]

_ROUNDING = 1e-9
"""0.7 * 10 is 7.000000000000001 in floating point, and 7 units are meant."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The legal kept counts of every group that may lose units.

    Parameters
    ----------
    legal : Mapping of str to tuple of int
        Ascending, at least one. The last is the group's present size, so that "leave it whole" is legal, unless the
        group is in `forced`.
    forced : Mapping of str to int
        Present size of each group that must lose units whatever the target.
    """

    legal: Mapping[str, tuple[int, ...]]
    forced: Mapping[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its present size, legal or not."""
        return {name: self.forced.get(name, counts[-1]) for name, counts in self.legal.items()}

    @property
    def ceiling(self) -> dict[str, int]:
        """Every group at the largest legal count."""
        return {name: counts[-1] for name, counts in self.legal.items()}

    @property
    def floor(self) -> dict[str, int]:
        """Every group at the smallest legal count."""
        return {name: counts[0] for name, counts in self.legal.items()}

    @property
    def movable(self) -> tuple[str, ...]:
        """Names of the groups that can lose a unit: those that need scores."""
        return tuple(name for name, counts in self.legal.items() if len(counts) > 1 or name in self.forced)

    def allow(self, counts: Mapping[str, int]) -> bool:
        """Return whether every group has a legal count; groups missing from `counts` are at their present size."""
        whole = self.whole
        return all(counts.get(name, whole[name]) in legal for name, legal in self.legal.items())

    def nearest(self, name: str, wanted: float) -> int:
        """Return the legal count of group `name` nearest `wanted`; the smaller of two equally near ones."""
        return min(self.legal[name], key=lambda count: (abs(count - wanted), count))

    def above(self, name: str, count: int) -> int | None:
        """Return the next larger legal count of group `name`; None when there is none."""
        legal = self.legal[name]
        position = bisect_right(legal, count)
        return legal[position] if position < len(legal) else None

    def below(self, name: str, count: int) -> int | None:
        """Return the next smaller legal count of group `name`; None when there is none."""
        legal = self.legal[name]
        position = bisect_left(legal, count)
        return legal[position - 1] if position else None

    def rounded_up(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return `counts` raised to legal ones, or lowered to the largest legal one if there is none above."""
        return {
            name: legal[min(bisect_left(legal, count), len(legal) - 1)] if (legal := self.legal.get(name)) else count
            for name, count in counts.items()
        }

    def left(self, counts: Mapping[str, int]) -> Choices:
        """Return what may still be decided once the groups have shrunk to `counts`."""
        present = self.whole | {name: count for name, count in counts.items() if name in self.legal}
        legal = {name: tuple(c for c in legal if c <= present[name]) for name, legal in self.legal.items()}
        return Choices(legal, {name: size for name, size in present.items() if size != legal[name][-1]})

    def at_least(self, counts: Mapping[str, int]) -> Choices:
        """Return the same choices with the floors raised to `counts` (legal counts)."""
        legal = {name: tuple(c for c in legal if c >= counts.get(name, 0)) for name, legal in self.legal.items()}
        return Choices(legal, self.forced)


def choices_of(groups: Iterable[ChannelGroup], constraints: Constraints) -> Choices:
    """Return the legal counts of every prunable group that is not excluded.

    A count is legal if it is the whole group, or at least the floor ``max(min_units, ceil(min_fraction * n_units))``
    (never less than the group itself requires) and, in channels of every layer that makes them, a multiple of
    ``multiple_of``. A group with fewer channels than the multiple, or whose units have unequal numbers of channels,
    therefore has no aligned count and stays whole. ``bounds`` then keep only the counts between
    ``ceil(least * n_units)`` and ``floor(most * n_units)``; if ``most`` is 1, the whole group stays legal. ``ranges``
    then keep only the counts within them, or else the nearest one.
    Groups of one unit are not listed, nor, with ``exact_only``, groups whose removal differs from masking.

    Raises
    ------
    SelectorError
        A pattern of ``constraints.exclude`` or ``constraints.bounds`` matches nothing, or only groups that cannot be
        bounded.
    TargetError
        No count of a group lies within its bounds.
    NothingToPruneError
        Every group is fixed or excluded, or its only legal count is its size.
    """
    groups = tuple(groups)
    excluded, whole = excluded_groups(groups, constraints.exclude), frozenset(constraints.whole)
    free = [
        group
        for group in groups
        if group.prunable
        and group.name not in excluded
        and not whole.intersection(group.name.split("+"))
        and group.n_units > 1
        and (group.exact or not constraints.exact_only)
    ]
    bounds = _bounds_of(groups, constraints.bounds, [group.name for group in free])
    legal: dict[str, tuple[int, ...]] = {}
    forced: dict[str, int] = {}
    for group in free:
        counts = _legal_counts(group, constraints)
        if group.name in bounds:
            pattern, (least, most) = bounds[group.name]
            counts = _within(group, counts, pattern, least, most, constraints.multiple_of)
        if group.name in constraints.ranges:
            counts = _nearest_within(counts, *constraints.ranges[group.name])
        legal[group.name] = counts
        if counts[-1] != group.n_units:
            forced[group.name] = group.n_units
    choices = Choices(legal, forced)
    if not choices.movable:
        raise NothingToPruneError(_why_nothing(groups, excluded, constraints))
    return choices


def _legal_counts(group: ChannelGroup, constraints: Constraints) -> tuple[int, ...]:
    size = group.n_units
    least = max(group.min_units, constraints.min_units, ceil(constraints.min_fraction * size - _ROUNDING))
    step = _aligned_step(group, constraints.multiple_of)
    if step is None:
        return (size,)
    return (*(count for count in range(step, size, step) if count >= least), size)


def _bounds_of(
    groups: tuple[ChannelGroup, ...], bounds: Mapping[str, tuple[float, float]], free: list[str]
) -> dict[str, tuple[str, tuple[float, float]]]:
    """Return the pattern that bounds each free group, and its shares; the last matching pattern decides."""
    bounds_of: dict[str, tuple[str, tuple[float, float]]] = {}
    for pattern, hits in groups_by_pattern("bounds", bounds, groups).items():
        bounded = [name for name in hits if name in free]
        if not bounded:
            group = next(group for group in groups if group.name == hits[0])
            raise SelectorError(
                f"bounds: pattern {pattern!r} matches only {group.name!r}, which stays whole: "
                f"{group.fixed or 'it is excluded, has one unit, or is not exact'}"
            )
        bounds_of.update(dict.fromkeys(bounded, (pattern, bounds[pattern])))
    return bounds_of


def _within(
    group: ChannelGroup, counts: tuple[int, ...], pattern: str, least: float, most: float, multiple_of: int
) -> tuple[int, ...]:
    lowest, highest = ceil(least * group.n_units - _ROUNDING), floor(most * group.n_units + _ROUNDING)
    inside = tuple(count for count in counts if lowest <= count <= highest)
    if not inside:
        raise TargetError(
            f"bounds: {pattern!r} asks {group.name!r} to keep {lowest} to {highest} of its {group.n_units} units, but "
            f"its legal counts under multiple_of={multiple_of} and the floors are {listed(counts)}; widen the bounds"
        )
    return inside


def _nearest_within(counts: tuple[int, ...], least: int, most: int) -> tuple[int, ...]:
    apart = [max(least - count, count - most, 0) for count in counts]
    return tuple(count for count, off in zip(counts, apart, strict=True) if off == min(apart))


def _aligned_step(group: ChannelGroup, multiple_of: int) -> int | None:
    """Return how many units make a multiple in every producing layer; None if units differ in channels."""
    if multiple_of == 1:
        return 1
    step = 1
    for member in group.members:
        if not member.produces:
            continue
        widths = {len(positions) for positions in member.indices}
        if len(widths) != 1:
            return None
        step = lcm(step, multiple_of // gcd(multiple_of, widths.pop()))
    return step


def _why_nothing(groups: tuple[ChannelGroup, ...], excluded: frozenset[str], constraints: Constraints) -> str:
    if not groups:
        return "the network has no group of channels that could be pruned"
    fixed = [group for group in groups if not group.prunable]
    if len(fixed) == len(groups):
        return f"all {len(groups)} groups are fixed, e.g. {fixed[0].name!r}: {fixed[0].fixed}"
    if len(fixed) + sum(1 for group in groups if group.prunable and group.name in excluded) == len(groups):
        return f"all {len(groups) - len(fixed)} groups that may be pruned are excluded by {list(constraints.exclude)}"
    if constraints.exact_only and not any(g.prunable and g.exact and g.name not in excluded for g in groups):
        return "exact_only leaves every group whole: each lies under a norm across its channels"
    return (
        f"no group can lose a unit under multiple_of={constraints.multiple_of}, min_units={constraints.min_units}, "
        f"min_fraction={constraints.min_fraction}"
    )
