"""Shapes after pruning: which positions of each labelled tensor survive a plan."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pruners.channels.labels import Labels, Value, compact, varying

if TYPE_CHECKING:
    from pruners.channels.grouping import Grouping
    from pruners.plan import PruningPlan

__all__ = ["Survivors"]


class Survivors:
    """What is left of every labelled tensor of a network.

    Parameters
    ----------
    grouping : Grouping
        Grouping of the network.
    names : sequence of str
        Names of its groups, in order.
    plan : PruningPlan
        A plan for the network.
    """

    def __init__(self, grouping: Grouping, names: Sequence[str], plan: PruningPlan) -> None:
        removed: Mapping[str, set[int]] = {name: set(plan.removed(name)) for name in plan.kept}
        gone = [
            root
            for root, (group, unit) in grouping.unit_of.items()
            if names[group] in removed and unit in removed[names[group]]
        ]
        self._removed = torch.tensor(gone, dtype=torch.int64)
        self._see(grouping.walk.labels)

    def within(self, labels: Labels) -> Survivors:
        """Return the same for labels forked from these (`Labels.fork`) that joined none of their classes."""
        twin = copy.copy(self)
        twin._see(labels)
        return twin

    def _see(self, labels: Labels) -> None:
        self._labels = labels
        self._gone = torch.zeros(labels.count, dtype=torch.bool)
        self._gone[self._removed] = True

    def along(self, value: Value, axis: int) -> Tensor | None:
        """Return which positions along an axis survive, as a bool tensor of shape (size,); None where all do."""
        for slot in value.slots:
            if slot.shape[axis] == 1:
                continue
            roots = compact(self._labels.roots(slot))
            if axis in varying(roots):
                gone = self._gone[roots].reshape(-1)
                return ~gone if bool(gone.any()) else None
        return None

    def size(self, value: Value, axis: int) -> int:
        """Return the size of an axis after pruning."""
        stay = self.along(value, axis)
        return value.shape[axis] if stay is None else int(stay.sum())

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape after pruning."""
        return tuple(self.size(value, axis) for axis in value.axes)

    def cut(self, value: Value, tensor: Tensor) -> Tensor:
        """Return a tensor without the positions that are removed."""
        for axis in value.axes:
            stay = self.along(value, axis)
            if stay is not None:
                tensor = tensor.index_select(axis, stay.nonzero().reshape(-1).to(tensor.device))
        return tensor
