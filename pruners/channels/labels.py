"""Channel labels: what the engine knows about a tensor, and the store of constraints between labels.

Every channel that could be removed has a label, an integer from 1 up; 0 means "no label". United labels are kept or
removed together; a locked label stays. Nothing here knows about operators or networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["IntArray", "Labels", "Lock", "Value", "compact", "varying"]

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lock:
    """Why a label may not be removed.

    Parameters
    ----------
    reason : str
        One line, shown to users.
    """

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Labels of one tensor of the graph.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor, with the example's batch.
    slots : tuple of Tensor
        Label tensors of dtype int64 with as many axes as `shape`; each axis has the tensor's size, or 1 if the label
        does not change along it. An element of the tensor is removed when the label of *any* slot at it is removed.
    """

    shape: tuple[int, ...]
    slots: tuple[Tensor, ...] = ()

    @property
    def axes(self) -> range:
        """Numbers of the tensor's axes."""
        return range(len(self.shape))


def varying(slot: Tensor) -> tuple[int, ...]:
    """Return the axes along which a compact label tensor changes."""
    return tuple(axis for axis, size in enumerate(slot.shape) if size > 1)


def compact(labels: Tensor) -> Tensor:
    """Return labels (int64) with each axis along which they are constant shrunk to size 1."""
    for axis, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(axis, 0, 1)
            if labels.stride(axis) == 0 or bool((labels == first).all()):
                labels = first
    return labels


@dataclass(eq=False)
class Labels:
    """Store of labels, their ties and their locks; solved by `solve`."""

    _count: int = 1
    _edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _deferred: list[tuple[Tensor, Tensor, Lock]] = field(default_factory=list)
    _flagged: list[tuple[Tensor, tuple[int, ...]]] = field(default_factory=list)
    _weighed: list[Tensor] = field(default_factory=list)
    _locks: list[tuple[Tensor, int]] = field(default_factory=list)
    _parent: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    _lock_of: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    _roots: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    reasons: list[Lock] = field(default_factory=list)
    floors: list[tuple[Tensor, int]] = field(default_factory=list)
    _reason_index: dict[Lock, int] = field(default_factory=dict)

    def fork(self) -> Labels:
        """Return a copy that can take further constraints without changing this store."""
        twin = copy.copy(self)
        for name in ("_edges", "_deferred", "_flagged", "_weighed", "_locks", "reasons", "floors"):
            setattr(twin, name, list(getattr(self, name)))
        twin._reason_index = dict(self._reason_index)
        return twin

    def partition(self) -> Tensor:
        """Return, after `solve`, the removable class of every label: int64, of shape (n_labels,)."""
        return self._roots

    def fresh(self, count: int) -> Tensor:
        """Return `count` new labels, ascending: int64, of shape (count,)."""
        start = self._count
        self._count += count
        return torch.arange(start, self._count)

    def lock(self, labels: Tensor, lock: Lock) -> None:
        """Forbid removing `labels`; the first lock of a label is the one reported."""
        index = self._reason_index.setdefault(lock, len(self.reasons))
        if index == len(self.reasons):
            self.reasons.append(lock)
        self._locks.append((labels.reshape(-1), index))

    def unite(self, left: Tensor, right: Tensor, lock: Lock) -> None:
        """Tie two label tensors of equal rank element by element (broadcast); `lock` a label that meets none."""
        if left is right:
            return
        shape = [max(sizes) for sizes in zip(left.shape, right.shape, strict=True)]
        pairs = torch.stack((left.expand(shape).reshape(-1), right.expand(shape).reshape(-1)))
        pairs = pairs[:, pairs[0] != pairs[1]]
        if not pairs.numel():
            return
        one_is_none = (pairs == 0).any(0)
        if bool(one_is_none.any()):
            self.lock(pairs[:, one_is_none].amax(0), lock)
            pairs = pairs[:, ~one_is_none]
        self._edges.append((pairs[0], pairs[1]))

    def defer(self, wide: Tensor, narrow: Tensor, lock: Lock) -> None:
        """Tie `wide` to `narrow`, which changes along only some of its axes, once it is known how `wide` is pruned.

        A scale of shape (head size,) on a tensor of shape (heads, head size) ties the heads together if the
        head size is pruned, and locks only itself if the heads are.
        """
        self._deferred.append((wide, narrow, lock))

    def flag(self, slot: Tensor, axes: Sequence[int]) -> None:
        """Record that a statistic is taken along `axes`: removing some labels there changes it for the others."""
        self._flagged.append((slot, tuple(axes)))

    def weigh(self, slot: Tensor) -> None:
        """Record that a sum over `slot` is part of a weight: removing some labels rescales what stays."""
        self._weighed.append(slot)

    def inexact(self, active: Iterable[Tensor]) -> set[int]:
        """Return, after `solve`, the classes that a statistic is taken over.

        Parameters
        ----------
        active : iterable of Tensor
            Labels of all values that depend on the network's inputs. A class not among them (the rank of a
            factorised weight) has no channel of its own: it exists only to be summed over.
        """
        roots: set[int] = set()
        for slot, axes in self._flagged:
            classes = compact(self.roots(slot))
            if set(varying(classes)) & set(axes):
                roots |= set(classes.reshape(-1).tolist())
        if self._weighed:
            of_channels = torch.zeros(self._count, dtype=torch.bool)
            for slot in {id(slot): slot for slot in active}.values():
                of_channels[self.roots(slot)] = True
            for slot in self._weighed:
                classes = self.roots(slot)
                roots |= set(classes[of_channels[classes]].tolist())
        return roots

    def tie(self, slot: Tensor, axes: Iterable[int], lock: Lock) -> Tensor:
        """Tie labels together along `axes`; return the slot with size 1 there."""
        for axis in axes:
            if slot.shape[axis] > 1:
                first = slot.narrow(axis, 0, 1)
                self.unite(slot, first, lock)
                slot = first
        return slot

    def floor(self, labels: Tensor, least: int) -> None:
        """Require at least `least` classes of `labels` to stay: with fewer, tracing again would find other classes."""
        self.floors.append((labels.reshape(-1), least))

    def least(self) -> dict[int, int]:
        """Return, after `solve`, the largest floor of each class that has one."""
        least_of: dict[int, int] = {}
        for labels, least in self.floors:
            for label in set(self._parent[labels].tolist()):
                least_of[label] = max(least, least_of.get(label, 1))
        return least_of

    def solve(self) -> None:
        """Update `roots` with all constraints added so far."""
        old = self._parent
        parent = torch.arange(self._count)
        parent[: old.numel()] = old
        if self._edges:
            left = torch.cat([edge[0] for edge in self._edges])
            right = torch.cat([edge[1] for edge in self._edges])
            self._edges.clear()
            while True:
                a, b = parent[left], parent[right]
                apart = a != b
                if not bool(apart.any()):
                    break
                left, right, a, b = left[apart], right[apart], a[apart], b[apart]
                parent.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
                while True:
                    shorter = parent[parent]
                    if bool((shorter == parent).all()):
                        break
                    parent = shorter
        self._parent = parent
        none = len(self.reasons)
        lock_of_root = torch.full((self._count,), none, dtype=torch.int64)
        for labels, index in self._locks:
            lock_of_root.scatter_reduce_(0, parent[labels], torch.full_like(labels, index), "amin")
        self._lock_of = torch.where(lock_of_root[parent] == none, -1, lock_of_root[parent])
        self._roots = torch.where(self._lock_of < 0, parent, 0)

    @property
    def count(self) -> int:
        """Number of labels given out, plus one for "no label"."""
        return self._count

    def roots(self, labels: Tensor) -> Tensor:
        """Return, after `solve`, the removable class of each label, 0 where there is none or it is locked."""
        return self._roots[labels]

    def classes(self, labels: Tensor) -> Tensor:
        """Return, after `solve`, the class of each label whether locked or not, 0 where there is no label."""
        return self._parent[labels]

    def lock_of(self, label: int) -> Lock | None:
        """Return, after `solve`, why a label is locked."""
        return self.locks_of([label])[0]

    def locks_of(self, labels: Sequence[int] | IntArray) -> list[Lock | None]:
        """Return, after `solve`, why each label is locked; None where it is not."""
        indices = self._lock_of[torch.as_tensor(labels, dtype=torch.int64)].tolist()
        return [None if index < 0 else self.reasons[index] for index in indices]

    def close(self, values: Sequence[Value]) -> None:
        """Add the ties and locks that keep every tensor a box when classes are removed, to a fixpoint, and solve.

        A slot must change along one axis only (others are tied; the axis with the most classes stays free), must not
        be a single class (the whole tensor would vanish), and two slots must not share an axis. The survivors then
        keep their row-major order through every view: the view of the pruned tensor is the pruned view. The free
        axis must keep more classes than any other axis has, so that it is chosen again when the compact network is
        traced. Deferred ties are decided last, one after the other.
        """
        slots = _Slots({id(slot): slot for value in values for slot in value.slots})
        crowded = [value.slots for value in values if len(value.slots) > 1]
        self._close(slots, crowded)
        while self._deferred:
            self._decide(*self._deferred.pop(0))
            self._close(slots, crowded)

    def _decide(self, wide: Tensor, narrow: Tensor, lock: Lock) -> None:
        of_narrow = compact(self.roots(narrow))
        of_wide = compact(self.roots(wide))
        if not varying(of_narrow) and not int(of_narrow.reshape(-1)[0]):  # held already
            if any(narrow.shape[axis] > 1 for axis in varying(of_wide)):
                self.lock(wide, lock)
        elif any(narrow.shape[axis] > 1 for axis in varying(of_wide)):
            axes = [axis for axis, size in enumerate(narrow.shape) if size == 1]
            self.unite(self.tie(wide, axes, lock), narrow, lock)
        else:
            self.lock(narrow, lock)

    def _close(self, slots: _Slots, crowded: Sequence[tuple[Tensor, ...]]) -> None:
        tied = Lock("its channels can only be removed all together")
        while True:
            self.solve()
            changed = False
            for key, slot in slots.regrouped(self._roots):
                roots = compact(self.roots(slot))
                slots.axes[key] = varying(roots)
                if not slots.axes[key] and int(roots.reshape(-1)[0]):
                    self.lock(slot, tied)
                    changed = True
                elif len(slots.axes[key]) > 1:
                    classes = {axis: _classes_along(roots, axis) for axis in slots.axes[key]}
                    free = max(classes, key=lambda axis: classes[axis])
                    self.tie(slot, [axis for axis in classes if axis != free], tied)
                    self.floor(slot, 1 + max(count for axis, count in classes.items() if axis != free))
                    changed = True
            for several in crowded:
                used = [axis for slot in several for axis in slots.axes[id(slot)]]
                if len(set(used)) < len(used):
                    for slot in several:
                        self.lock(slot, Lock("two kinds of channels share one axis"))
                    changed = True
            if not changed:
                return


class _Slots:
    """All label tensors by key; only those whose classes have changed are examined again.

    Attributes
    ----------
    axes : dict of int to tuple of int
        Key -> axes along which its classes change; none for an empty tensor.
    """

    def __init__(self, slots: Mapping[int, Tensor]) -> None:
        self.axes: dict[int, tuple[int, ...]] = dict.fromkeys(slots, ())
        self._slots = list(slots.items())
        labels = [slot.reshape(-1) for slot in slots.values()]
        self._labels = torch.cat(labels) if labels else torch.zeros(0, dtype=torch.int64)
        self._owner = torch.repeat_interleave(torch.tensor([one.numel() for one in labels], dtype=torch.int64))
        self._roots = torch.zeros(0, dtype=torch.int64)

    def regrouped(self, roots: Tensor) -> list[tuple[int, Tensor]]:
        """Return the label tensors with a class that has changed since the last call.

        Parameters
        ----------
        roots : Tensor
            The class of every label: int64, of shape (n_labels,).

        Returns
        -------
        list of tuple of (int, Tensor)
            Key and label tensor of each, in the given order.
        """
        other = torch.ones(roots.shape, dtype=torch.bool)
        known = self._roots.numel()
        other[:known] = roots[:known] != self._roots
        self._roots = roots
        return [self._slots[number] for number in torch.unique(self._owner[other[self._labels]]).tolist()]


def _classes_along(roots: Tensor, axis: int) -> int:
    return int(torch.unique(roots.movedim(axis, 0).flatten(1), dim=0).shape[0])
