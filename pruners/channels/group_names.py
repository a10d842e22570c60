"""Keep group names stable while a network shrinks, so that a later plan can be joined with an earlier one."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TypeAlias

from pruners.groups import ChannelGroup, removed_positions
from pruners.plan import PruningPlan

__all__ = ["named_as_before"]

_Place: TypeAlias = tuple[str, int, int]
_Unit: TypeAlias = tuple[str, int]
_produces = attrgetter("produces")


def named_as_before(
    before: Sequence[ChannelGroup], plan: PruningPlan, now: Sequence[ChannelGroup]
) -> tuple[ChannelGroup, ...]:
    """Name the groups of a shrunk network after the groups that they come from.

    Names number the groups that one layer starts, and pruning can merge groups: parts of a layer reduced to the same
    size can form one. A group that is not exactly what is left of one former group gets a name that no group had:
    ``"stem+stem#2"`` if several became one, ``"stem/1"`` and ``"stem/2"`` if one became several.

    Parameters
    ----------
    before : sequence of ChannelGroup
        Groups of the network that `plan` was made for.
    now : sequence of ChannelGroup
        Groups of the network after the plan.
    """
    gone = removed_positions(before, plan)
    former: dict[_Place, _Unit] = {}
    for group in before:
        former.update(_left(group, plan, gone))
    sizes = {group.name: len(plan.kept.get(group.name, range(group.n_units))) for group in before}
    origins = [_origin(group, former) for group in now]
    names = ["+".join(dict.fromkeys(name for name, _ in units)) for units in origins]
    times, seen = Counter(names), Counter[str]()
    named = []
    for group, units, name in zip(now, origins, names, strict=True):
        seen[name] += 1
        several = times[name] > 1 or ("+" not in name and units != [(name, unit) for unit in range(sizes.get(name, 0))])
        named.append(replace(group, name=f"{name}/{seen[name]}" if several else name))
    return tuple(named)


def _left(
    group: ChannelGroup, plan: PruningPlan, gone: Mapping[str, Mapping[int, Sequence[int]]]
) -> Iterable[tuple[_Place, _Unit]]:
    """Yield the new place of each kept unit in the tensors that produce it, and its number among the kept units."""
    kept = plan.kept.get(group.name, range(group.n_units))
    for member in filter(_produces, group.members):
        removed = gone.get(member.path, {}).get(member.axis, ())
        for number, unit in enumerate(kept):
            for position in member.indices[unit]:
                yield (member.path, member.axis, position - bisect_left(removed, position)), (group.name, number)


def _origin(group: ChannelGroup, former: Mapping[_Place, _Unit]) -> list[_Unit]:
    """Return the former units of a group, in order, found by the first tensor that produces them."""
    member = next(filter(_produces, group.members))
    places = ((member.path, member.axis, position) for positions in member.indices for position in positions)
    return list(dict.fromkeys(former[place] for place in places if place in former))
