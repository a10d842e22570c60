"""What may be decided at all: the legal kept counts of each free group, after exclusions, floors and alignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import ceil, gcd, lcm

from pruners.errors import NothingToPruneError, SelectorError
from pruners.groups import ChannelGroup
from pruners.task import Constraints

__all__ = ["Choices", "choices_of", "excluded_groups", "groups_by_ratio", "producers"]

_LISTED = 8


@dataclass(frozen=True, slots=True)
class Choices:
    """The legal kept counts of every group that may lose units.

    Parameters
    ----------
    legal : Mapping of str to tuple of int
        Ascending; the last one is the present size of the group, so that "leave it whole" is always legal.
    """

    legal: Mapping[str, tuple[int, ...]]

    @property
    def whole(self) -> dict[str, int]:
        """Every group at its present size."""
        return {name: counts[-1] for name, counts in self.legal.items()}

    @property
    def floor(self) -> dict[str, int]:
        """Every group at the smallest legal count."""
        return {name: counts[0] for name, counts in self.legal.items()}

    def nearest(self, name: str, wanted: float) -> int:
        """Return the legal count of group `name` next to `wanted`; of two equally near ones the smaller."""
        return min(self.legal[name], key=lambda count: (abs(count - wanted), count))

    def above(self, name: str, count: int) -> int | None:
        """Return the next larger legal count of group `name`; None when it is whole."""
        return min((legal for legal in self.legal[name] if legal > count), default=None)

    def left(self, counts: Mapping[str, int]) -> Choices:
        """Return what may still be decided once the groups have shrunk to `counts` (legal ones)."""
        return Choices(
            {name: tuple(c for c in legal if c <= counts.get(name, legal[-1])) for name, legal in self.legal.items()}
        )

    def at_least(self, counts: Mapping[str, int]) -> Choices:
        """Return the same choices with the floor raised to `counts` (legal ones)."""
        return Choices(
            {name: tuple(c for c in legal if c >= counts.get(name, legal[0])) for name, legal in self.legal.items()}
        )


def producers(group: ChannelGroup) -> tuple[str, ...]:
    """Return the names of the modules that make the channels of `group`, in the order of its members."""
    return tuple(dict.fromkeys(member.path.rpartition(".")[0] for member in group.members if member.produces))


def excluded_groups(groups: Iterable[ChannelGroup], patterns: Iterable[str]) -> frozenset[str]:
    """Return the names of the groups that `patterns` leave whole.

    A group is left whole as soon as its own name, or the name of any layer that makes its channels, matches: a layer
    that was excluded keeps all its channels even where it shares them with layers that were not.

    Raises
    ------
    SelectorError
        A pattern matches no layer that makes channels (a BatchNorm, for one, only carries them).
    """
    groups = tuple(groups)
    found: set[str] = set()
    for pattern in patterns:
        hits = {g.name for g in groups if any(fnmatchcase(name, pattern) for name in (g.name, *producers(g)))}
        if not hits:
            known = [name for g in groups for name in (g.name, *producers(g))]
            raise SelectorError(
                f"exclude: pattern {pattern!r} matches no layer that makes channels{_suggestion(pattern, known)}"
            )
        found |= hits
    return frozenset(found)


def groups_by_ratio(groups: Iterable[ChannelGroup], ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the share of units to remove for each group that `ratios` name.

    Patterns are matched (``fnmatch``, with case) against names of groups. Of several patterns that match a group the
    last one decides, so that ``{"*": 0.3, "stem": 0.0}`` reads as it is written.

    Raises
    ------
    SelectorError
        A pattern matches no group, or only groups that may not be pruned.
    """
    groups = tuple(groups)
    wanted: dict[str, float] = {}
    for pattern, removed in ratios.items():
        hits = [group for group in groups if fnmatchcase(group.name, pattern)]
        free = [group.name for group in hits if group.prunable]
        if not free:
            if hits:
                why = f"only {hits[0].name!r}, which may not be pruned: {hits[0].fixed}"
                raise SelectorError(f"ratios: pattern {pattern!r} matches {why}")
            shared = next((g for g in groups if any(fnmatchcase(name, pattern) for name in producers(g))), None)
            if shared is not None:
                raise SelectorError(
                    f"ratios: {pattern!r} is no group of its own: its channels are in group {shared.name!r}, name that"
                )
            names = [group.name for group in groups if group.prunable]
            raise SelectorError(f"ratios: pattern {pattern!r} matches no group{_suggestion(pattern, names)}")
        wanted.update(dict.fromkeys(free, removed))
    return wanted


def choices_of(groups: Iterable[ChannelGroup], constraints: Constraints) -> Choices:
    """Say which counts every prunable, not excluded group may be brought to.

    A count is legal when it is the whole group, or at least the floor ``max(min_units, ceil(min_fraction * n_units))``
    (never less than the group itself demands) and, in channels of every layer that makes them, a multiple of
    ``multiple_of``. A group with fewer channels than the multiple, or whose units have unequal numbers of channels,
    therefore has no aligned count and stays whole.
    Groups of one unit are not listed.

    Raises
    ------
    SelectorError
        A pattern of ``constraints.exclude`` matches nothing.
    NothingToPruneError
        Every group is fixed or excluded, or has the whole as its only legal count.
    """
    groups = tuple(groups)
    excluded = excluded_groups(groups, constraints.exclude)
    legal: dict[str, tuple[int, ...]] = {}
    for group in groups:
        if group.prunable and group.name not in excluded and group.n_units > 1:
            legal[group.name] = _legal_counts(group, constraints)
    if all(len(counts) == 1 for counts in legal.values()):
        raise NothingToPruneError(_why_nothing(groups, excluded, constraints))
    return Choices(legal)


def _legal_counts(group: ChannelGroup, constraints: Constraints) -> tuple[int, ...]:
    size = group.n_units
    floor = max(group.min_units, constraints.min_units, ceil(constraints.min_fraction * size - 1e-9))
    step = _aligned_step(group, constraints.multiple_of)
    if step is None:
        return (size,)
    return (*(count for count in range(step, size, step) if count >= floor), size)


def _aligned_step(group: ChannelGroup, multiple_of: int) -> int | None:
    """Return how many units make a multiple in every producing layer; None where units differ in channels."""
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


def _suggestion(pattern: str, names: list[str]) -> str:
    near = get_close_matches(pattern, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    listed = list(dict.fromkeys(names))
    more = ", ..." if len(listed) > _LISTED else ""
    return f" (there are: {', '.join(listed[:_LISTED])}{more})" if listed else ""


def _why_nothing(groups: tuple[ChannelGroup, ...], excluded: frozenset[str], constraints: Constraints) -> str:
    if not groups:
        return "the network has no group of channels that could be pruned"
    fixed = [group for group in groups if not group.prunable]
    if len(fixed) == len(groups):
        return f"all {len(groups)} groups are fixed, e.g. {fixed[0].name!r}: {fixed[0].fixed}"
    if len(fixed) + sum(1 for group in groups if group.prunable and group.name in excluded) == len(groups):
        return f"all {len(groups) - len(fixed)} groups that may be pruned are excluded by {list(constraints.exclude)}"
    return (
        f"no group can lose a unit under multiple_of={constraints.multiple_of}, min_units={constraints.min_units}, "
        f"min_fraction={constraints.min_fraction}"
    )
