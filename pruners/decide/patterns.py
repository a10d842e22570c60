"""Match patterns of layer names to channel groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from pruners.errors import SelectorError, did_you_mean
from pruners.groups import ChannelGroup

__all__ = ["excluded_groups", "groups_by_pattern", "groups_by_ratio", "listed", "producers"]

_LISTED = 8


def producers(group: ChannelGroup) -> tuple[str, ...]:
    """Return the names of the modules that make the channels of `group`, in the order of its members."""
    return tuple(dict.fromkeys(member.path.rpartition(".")[0] for member in group.members if member.produces))


def excluded_groups(groups: Iterable[ChannelGroup], patterns: Iterable[str]) -> frozenset[str]:
    """Return the names of the groups that `patterns` leave whole.

    A group is left whole if a pattern matches its own name, the name of any layer that makes its channels, or that of
    a module around such a layer: an excluded layer keeps all its channels even if it shares them with layers that are
    not excluded.

    Raises
    ------
    SelectorError
        A pattern matches no layer that makes channels (a BatchNorm, for example, only carries them).
    """
    return frozenset(name for hits in groups_by_pattern("exclude", patterns, tuple(groups)).values() for name in hits)


def groups_by_pattern(who: str, patterns: Iterable[str], groups: tuple[ChannelGroup, ...]) -> dict[str, list[str]]:
    """Return for each pattern the names of the groups that it matches.

    Groups match by their own name, or by that of a layer that makes their channels or of a module around it.

    Raises
    ------
    SelectorError
        A pattern matches no layer that makes channels; the message starts with `who`.
    """
    names = {group.name: (group.name, *producers(group)) for group in groups}
    matches: dict[str, list[str]] = {}
    for pattern in patterns:
        matches[pattern] = [
            g for g, known in names.items() if any(fnmatchcase(name, pattern) for own in known for name in _paths(own))
        ]
        if not matches[pattern]:
            known = [name for of_group in names.values() for name in of_group]
            raise SelectorError(
                f"{who}: pattern {pattern!r} matches no layer that makes channels{_suggestion(pattern, known)}"
            )
    return matches


def _paths(name: str) -> list[str]:
    """Return the name of a layer and those of the modules around it."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]


def groups_by_ratio(groups: Iterable[ChannelGroup], ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the share of units to remove for each group that `ratios` name.

    Patterns are matched (``fnmatch``, case-sensitive) against group names. If several patterns match a group, the last
    one decides, so that ``{"*": 0.3, "stem": 0.0}`` reads as written.

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
                    f"ratios: {pattern!r} is not a group of its own: its channels are in group {shared.name!r}, name "
                    "that"
                )
            names = [group.name for group in groups if group.prunable]
            raise SelectorError(f"ratios: pattern {pattern!r} matches no group{_suggestion(pattern, names)}")
        wanted.update(dict.fromkeys(free, removed))
    return wanted


def _suggestion(pattern: str, names: list[str]) -> str:
    known = list(dict.fromkeys(names))
    return did_you_mean(pattern, known) or (f" (there are: {listed(known)})" if known else "")


def listed(values: Sequence[object]) -> str:
    """Return the first few values, for a message."""
    return ", ".join(str(value) for value in values[:_LISTED]) + (", ..." if len(values) > _LISTED else "")
