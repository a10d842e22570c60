"""Turn solved labels into channel groups: classes with the same members and counts are units of one group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from pruners.channels.labels import IntArray, Lock, Value, compact, varying
from pruners.channels.propagation import Propagation
from pruners.cost import AxisSize
from pruners.groups import ChannelGroup, Member

__all__ = ["Grouping", "group_classes"]

Signature: TypeAlias = bytes
"""Pairs (index of an axis, number of positions on it), int64, in the order of the axes."""


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
        by_group: dict[int, dict[int, list[int]]] = {}
        for position, root in enumerate(_roots_along(self.walk, value, axis).tolist()):
            if root in self.unit_of:
                group, unit = self.unit_of[root]
                by_group.setdefault(group, {}).setdefault(unit, []).append(position)
        return by_group

    def size(self, value: Value, axis: int) -> AxisSize:
        """Return the size of an axis as a function of kept units."""
        per_group: dict[int, set[int]] = {}
        roots, counts = np.unique(_roots_along(self.walk, value, axis), return_counts=True)
        for root, count in zip(roots.tolist(), counts.tolist(), strict=True):
            if root in self.unit_of:
                per_group.setdefault(self.unit_of[root][0], set()).add(count)
        assert all(len(each) == 1 for each in per_group.values()), "units of a group count alike on every axis"
        pairs = tuple(sorted((group, each.pop()) for group, each in per_group.items()))
        units = [self.groups[group].n_units for group, _ in pairs]
        return AxisSize(value.shape[axis] - sum(n * c for n, (_, c) in zip(units, pairs, strict=True)), pairs)


def _roots_along(walk: Propagation, value: Value, axis: int) -> IntArray:
    for slot in value.slots:
        if slot.shape[axis] > 1:
            roots = compact(walk.labels.roots(slot))
            if varying(roots) == (axis,):
                return roots.reshape(-1).numpy()
    return np.zeros(0, dtype=np.int64)


def group_classes(walk: Propagation, tensors: Mapping[str, Value]) -> Grouping:
    """Group the classes of a finished walk; `tensors` are the labelled parameters and buffers by name."""
    columns = list(_tensor_axes(walk, tensors))
    inexact = walk.inexact()
    alike: dict[tuple[Lock | None, bool, Signature], list[int]] = {}
    for label, lock, signature in _signatures(walk, columns):
        alike.setdefault((lock, label in inexact, signature), []).append(label)
    parts = []
    for (_, _, signature), units in alike.items():
        own = [columns[number] for number in np.frombuffer(signature, np.int64)[::2].tolist() if number < len(columns)]
        if any(column.made_by is not None for column in own):
            parts.append(_part(own, units))
    return Grouping(*_named(walk, sorted(parts), inexact), walk)


@dataclass(frozen=True, eq=False)
class _TensorAxis:
    """One axis of a parameter or buffer: the classes of its positions, sorted, and the positions in that order."""

    path: str
    axis: int
    made_by: int | None
    classes: IntArray
    order: IntArray

    def positions(self, units: Sequence[int]) -> IntArray:
        """Return positions of shape (units, positions per unit), ascending; all units have the same number."""
        start = np.searchsorted(self.classes, units, side="left")
        stop = np.searchsorted(self.classes, units, side="right")
        return self.order[start[:, None] + np.arange(stop[0] - start[0])]


def _tensor_axes(walk: Propagation, tensors: Mapping[str, Value]) -> Iterator[_TensorAxis]:
    for path, value in tensors.items():
        for slot in value.slots:
            (axis,) = varying(slot)
            own = slot.reshape(-1)
            classes = walk.labels.classes(own).numpy()
            order = np.argsort(classes, kind="stable")
            yield _TensorAxis(path, axis, walk.produced.get(int(own[0])), classes[order], order)


def _signatures(walk: Propagation, columns: Sequence[_TensorAxis]) -> Iterator[tuple[int, Lock | None, Signature]]:
    """Yield each class with its lock and its signature: which axes hold it, and how often."""
    axes = [pair for term in walk.mac_terms for pair in (*term.axes, *((term.result, a) for a in term.result.axes))]
    axes += walk.parts
    counted = {(id(value), axis): (value, axis) for value, axis in axes}.values()
    rows = [column.classes for column in columns]
    rows += [_roots_along(walk, value, axis) for value, axis in counted]
    triples = []
    for number, row in enumerate(rows):
        labels, counts = np.unique(row, return_counts=True)
        triples.append(np.stack([labels, np.full_like(labels, number), counts]))
    joined = np.concatenate(triples, axis=1) if triples else np.zeros((3, 0), dtype=np.int64)
    joined = joined[:, joined[0] > 0]
    joined = joined[:, np.argsort(joined[0], kind="stable")]
    labels, starts = np.unique(joined[0], return_index=True)
    pairs = np.ascontiguousarray(joined[1:].T)
    flat, width = pairs.tobytes(), 2 * pairs.itemsize
    stops = [*starts[1:].tolist(), len(pairs)][: len(labels)]
    locks = walk.labels.locks_of(labels)
    for label, lock, start, stop in zip(labels.tolist(), locks, starts.tolist(), stops, strict=True):
        yield label, lock, flat[start * width : stop * width]


@dataclass(frozen=True, order=True)
class _Part:
    """A group in the making, ordered by where the network makes it and the first position there."""

    made_by: int
    first_position: int
    path: str
    columns: tuple[_TensorAxis, ...] = field(compare=False)
    units: tuple[int, ...] = field(compare=False)


def _part(columns: Sequence[_TensorAxis], units: Sequence[int]) -> _Part:
    first = min((c for c in columns if c.made_by is not None), key=lambda column: column.made_by or 0)
    position = dict(zip(units, first.positions(units)[:, 0].tolist(), strict=True))
    ordered = sorted(units, key=lambda unit: position[unit])
    return _Part(first.made_by or 0, position[ordered[0]], first.path, tuple(columns), tuple(ordered))


def _named(
    walk: Propagation, parts: Sequence[_Part], inexact: set[int]
) -> tuple[tuple[ChannelGroup, ...], dict[int, tuple[int, int]]]:
    labels = walk.labels
    floors = labels.least()
    groups: list[ChannelGroup] = []
    unit_of: dict[int, tuple[int, int]] = {}
    used: dict[str, int] = {}
    known: dict[tuple[int, bytes], tuple[tuple[int, ...], ...]] = {}  # most tensors of a group have the same positions

    def indices(column: _TensorAxis, units: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        positions = column.positions(units)
        key = positions.shape[1], positions.tobytes()
        if key not in known:
            known[key] = tuple(map(tuple, positions.tolist()))
        return known[key]

    for part in parts:
        module = part.path.rpartition(".")[0] or part.path
        used[module] = used.get(module, 0) + 1
        lock = labels.lock_of(part.units[0])
        least = max(floors.get(unit, 1) for unit in part.units)
        few = f"it has {len(part.units)} unit{'s' * (len(part.units) > 1)}, and at least {least} must stay"
        if lock is None:
            unit_of.update({label: (len(groups), unit) for unit, label in enumerate(part.units)})
        groups.append(
            ChannelGroup(
                name=module if used[module] == 1 else f"{module}#{used[module]}",
                n_units=len(part.units),
                members=tuple(
                    Member(
                        path=column.path,
                        axis=column.axis,
                        indices=indices(column, part.units),
                        produces=column.made_by is not None,
                    )
                    for column in part.columns
                ),
                exact=not inexact.intersection(part.units),
                fixed=lock.reason if lock is not None else few if len(part.units) <= least else "",
                min_units=least,
            )
        )
    return tuple(groups), unit_of
