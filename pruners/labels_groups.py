"""From solved labels to channel groups: classes with the same members, counted alike, are units of one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pruners.cost import AxisSize
from pruners.groups import ChannelGroup, Member
from pruners.labels import Value, compact, varying
from pruners.labels_propagate import Propagation

__all__ = ["Grouping", "group_classes"]


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups, and for each removable class which unit of which group it is.

    Parameters
    ----------
    groups : tuple of ChannelGroup
        In the order in which the network produces them.
    unit_of : Mapping of int to (int, int)
        Root label -> (index of the group, unit).
    """

    groups: tuple[ChannelGroup, ...]
    unit_of: Mapping[int, tuple[int, int]]
    walk: Propagation

    def positions(self, value: Value, axis: int) -> dict[int, dict[int, list[int]]]:
        """Return, per group and unit, the positions on an axis of a labelled tensor."""
        found: dict[int, dict[int, list[int]]] = {}
        for position, root in enumerate(_roots_along(self.walk, value, axis)):
            if root in self.unit_of:
                group, unit = self.unit_of[root]
                found.setdefault(group, {}).setdefault(unit, []).append(position)
        return found

    def size(self, value: Value, axis: int) -> AxisSize:
        """Return the size of an axis as a function of kept units."""
        per_group = {
            group: {len(where) for where in units.values()} for group, units in self.positions(value, axis).items()
        }
        assert all(len(counts) == 1 for counts in per_group.values()), "units of a group count alike on every axis"
        pairs = tuple(sorted((group, counts.pop()) for group, counts in per_group.items()))
        units = [self.groups[group].n_units for group, _ in pairs]
        return AxisSize(value.shape[axis] - sum(n * c for n, (_, c) in zip(units, pairs, strict=True)), pairs)


def _roots_along(walk: Propagation, value: Value, axis: int) -> list[int]:
    for slot in value.slots:
        if slot.shape[axis] > 1:
            roots = compact(walk.labels.roots(slot))
            if varying(roots) == (axis,):
                return roots.reshape(-1).tolist()
    return []


def group_classes(walk: Propagation, tensors: Mapping[str, Value]) -> Grouping:
    """Group the classes of a finished walk; `tensors` are the labelled parameters and buffers by name."""
    labels = walk.labels
    where: dict[int, dict[tuple[str, int], list[int]]] = {}
    produced_by: dict[tuple[str, int], int] = {}
    for path, value in tensors.items():
        for slot in value.slots:
            (axis,) = varying(slot)
            own = slot.reshape(-1)
            first = walk.produced.get(int(own[0]))
            if first is not None:
                produced_by[path, axis] = first
            for position, label in enumerate(labels.classes(own).tolist()):
                where.setdefault(label, {}).setdefault((path, axis), []).append(position)
    counted: dict[int, list[tuple[int, int]]] = {}
    for number, (value, axis) in enumerate({(id(v), a): (v, a) for t in walk.mac_terms for v, a in t.axes}.values()):
        roots, counts = torch.unique(torch.tensor(_roots_along(walk, value, axis)), return_counts=True)
        for root, count in zip(roots.tolist(), counts.tolist(), strict=True):
            counted.setdefault(int(root), []).append((number, count))
    alike: dict[object, list[int]] = {}
    for label, members in where.items():
        if not any(key in produced_by for key in members):
            continue
        signature = (
            labels.lock_of(label),
            tuple((key, len(positions)) for key, positions in members.items()),
            tuple(counted.get(label, ())),
        )
        alike.setdefault(signature, []).append(label)
    whole = torch.cat([torch.zeros(1, dtype=torch.int64), *(slot.reshape(-1) for slot in walk.whole_groups)])
    return _in_order(walk, list(alike.values()), where, produced_by, set(labels.classes(whole).tolist()))


def _in_order(
    walk: Propagation,
    alike: list[list[int]],
    where: Mapping[int, Mapping[tuple[str, int], list[int]]],
    produced_by: Mapping[tuple[str, int], int],
    whole_groups: set[int],
) -> Grouping:
    ordered = []
    for units in alike:
        keys = list(where[units[0]])
        producers = [key for key in keys if key in produced_by]
        first = min(producers, key=lambda key: produced_by[key])
        units.sort(key=lambda label: where[label][first])
        ordered.append((produced_by[first], where[units[0]][first], first[0], keys, units))
    ordered.sort(key=lambda item: (item[0], item[1]))
    groups: list[ChannelGroup] = []
    unit_of: dict[int, tuple[int, int]] = {}
    used: dict[str, int] = {}
    for _, _, path, keys, units in ordered:
        module = path.rpartition(".")[0] or path
        used[module] = used.get(module, 0) + 1
        lock = walk.labels.lock_of(units[0])
        least = 2 if units[0] in whole_groups else 1
        few = f"it has {len(units)} unit{'s' * (len(units) > 1)}, and no layer is emptied"
        if lock is None:
            unit_of.update({label: (len(groups), unit) for unit, label in enumerate(units)})
        groups.append(
            ChannelGroup(
                name=module if used[module] == 1 else f"{module}#{used[module]}",
                n_units=len(units),
                members=tuple(
                    Member(
                        path=name,
                        axis=axis,
                        indices=tuple(tuple(where[label][name, axis]) for label in units),
                        produces=(name, axis) in produced_by,
                    )
                    for name, axis in keys
                ),
                exact=lock is None or lock.exact,
                fixed=lock.reason if lock is not None else few if len(units) <= least else "",
                min_units=least,
            )
        )
    return Grouping(tuple(groups), unit_of, walk)
