"""Groups keep their names while a network shrinks: a plan for what is left can be joined with the one before."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pruners.groups import ChannelGroup
from pruners.plan import PruningPlan
from pruners.surgery import removed_positions

__all__ = ["named_as_before"]

_Place: TypeAlias = tuple[str, int, int]


def named_as_before(
    before: Sequence[ChannelGroup], plan: PruningPlan, now: Sequence[ChannelGroup]
) -> tuple[ChannelGroup, ...]:
    """Name the groups of a shrunk network as the groups that they are left of.

    Names count the groups that one layer starts, and these become fewer: parts of a layer that are down to the same
    size can be one group from then on. What is not just what is left of one group gets a name that no group had:
    ``"stem+stem#2"`` where several became one, ``"stem/1"`` and ``"stem/2"`` where one became several.

    Parameters
    ----------
    before : sequence of ChannelGroup
        Of the network that `plan` was made for.
    now : sequence of ChannelGroup
        Of what the plan left of it.
    """
    gone = removed_positions(before, plan)
    former = {place: group.name for group in before for place in _left(group, plan, gone)}
    sizes = {group.name: len(plan.kept.get(group.name, range(group.n_units))) for group in before}
    origins = ["+".join(dict.fromkeys(former[place] for place in _first(group) if place in former)) for group in now]
    times, seen = Counter(origins), Counter[str]()
    named = []
    for group, origin in zip(now, origins, strict=True):
        seen[origin] += 1
        whole = times[origin] == 1 and ("+" in origin or sizes.get(origin) == group.n_units)
        named.append(replace(group, name=origin if whole else f"{origin}/{seen[origin]}"))
    return tuple(named)


def _left(group: ChannelGroup, plan: PruningPlan, gone: Mapping[str, Mapping[int, Sequence[int]]]) -> Iterable[_Place]:
    """Yield where the units that are left lie now, in every tensor."""
    kept = plan.kept.get(group.name, range(group.n_units))
    for member in group.members:
        removed = gone.get(member.path, {}).get(member.axis, ())
        for unit in kept:
            for position in member.indices[unit]:
                yield member.path, member.axis, position - bisect_left(removed, position)


def _first(group: ChannelGroup) -> Iterable[_Place]:
    """Yield where the units of a group lie in the first tensor that makes them."""
    member = next((member for member in group.members if member.produces), group.members[0])
    return ((member.path, member.axis, position) for positions in member.indices for position in positions)
