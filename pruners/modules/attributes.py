"""Find integer attributes of modules that repeat sizes (``num_heads``, ``split_indexes``), and possible new values.

A size written in Python code shows up in the exported graph as a constant of a view or a split. If pruning changes that
constant, the number is looked for among the attributes of the module whose code made the node, then among those of the
modules around it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["OF_TORCH", "SizeChange", "Slot", "Slots", "slots_of"]

Keys = tuple[Hashable, ...]
OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
_LARGEST_CONTAINER = 64
_GEOMETRY = re.compile(
    r"(^|_)(class|depth|dilation|epoch|grid|image|img|input|kernel|layer|length|padding|patch|resolution|seq|shift|"
    r"stride|window)(e?s)?(_|$)",
    re.IGNORECASE,
)
"""Words in names of attributes that count something other than channels."""


@dataclass(frozen=True, slots=True)
class SizeChange:
    """A size in the code of a module that pruning changes.

    Parameters
    ----------
    module : str
        Path of the innermost module whose code made the node (from its ``nn_module_stack``).
    old, new : int
        A constant of the node (a size of a view, reshape or expand; a length or bound of a split or slice; a number
        of groups; a normalised shape), in the whole network and in the compact one.
    """

    module: str
    old: int
    new: int

    @property
    def layer(self) -> str:
        """Path of the module without call numbers."""
        return re.sub(r"@\d+", "", self.module)


@dataclass(frozen=True, slots=True)
class Slot:
    """One integer of a module's attributes that may repeat a size.

    Parameters
    ----------
    keys : tuple
        Name of the attribute, then indices or keys into nested tuples, lists and dictionaries.
    options : tuple of int
        Values that it may take, most likely first.
    present : int
        Its current value; one of the options.
    """

    keys: Keys
    options: tuple[int, ...]
    present: int

    def put(self, module: nn.Module, value: int) -> None:
        """Set the integer."""
        name = str(self.keys[0])
        setattr(module, name, _replaced(vars(module)[name], self.keys[1:], value))


Slots = Mapping[str, tuple[Slot, ...]]
"""Path of a module -> its slots."""


def slots_of(model: nn.Module, changes: Sequence[SizeChange], settled: frozenset[str]) -> Slots:
    """Find the integers that may have to follow the changes.

    Parameters
    ----------
    settled : frozenset of str
        Paths of layers whose attributes are known to be right.

    Returns
    -------
    Mapping of str to tuple of Slot
        In the module that made a change: integers equal to the old size, assumed to follow unless their name suggests
        geometry. If there are none: integers in a whole ratio to the old size, assumed to stay. If none is equal at
        all: integers equal to it in the modules around, assumed to stay. One integer may represent two sizes that were
        equal, such as the outer and inner width of an attention: if it is in question, it may also follow the changes
        beside its module.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    by_path: dict[str, _OfModule] = {}
    per_module: dict[str, list[SizeChange]] = {}
    for change in dict.fromkeys(changes):
        path = change.layer
        if path in modules and path not in settled and change.old != change.new:
            per_module.setdefault(path, []).append(change)
    for path, own in per_module.items():
        here = by_path.setdefault(path, _OfModule(dict(_integers(modules[path]))))
        unexplained = [change for change in own if not here.follow_equal(change)]
        for change in unexplained:
            here.may_follow_in_ratio(change)
            for outer in _around(path) if change.old not in here.present.values() else ():
                if outer not in settled:
                    there = by_path.setdefault(outer, _OfModule(dict(_integers(modules[outer], nested=False))))
                    there.may_follow_equal(change)
    for path, of_module in by_path.items():
        beside = path.rpartition(".")[0]
        for change in dict.fromkeys(changes):
            if change.module.startswith(beside and f"{beside}."):
                of_module.may_follow_as_well(change)
    return {path: slots for path, of_module in by_path.items() if (slots := of_module.slots())}


@dataclass(frozen=True, slots=True)
class _OfModule:
    present: Mapping[Keys, int]
    likely: dict[Keys, list[int]] = field(default_factory=dict)
    possible: dict[Keys, list[int]] = field(default_factory=dict)

    def follow_equal(self, change: SizeChange) -> bool:
        """Let integers equal to the old size follow; return whether one of them looks like a channel count."""
        explained = False
        for keys, value in self.present.items():
            if value == change.old:
                speaks = not _GEOMETRY.search(str(keys[0]))
                (self.likely if speaks else self.possible).setdefault(keys, []).append(change.new)
                explained |= speaks
        return explained

    def may_follow_equal(self, change: SizeChange) -> None:
        for keys, value in self.present.items():
            if value == change.old:
                self.possible.setdefault(keys, []).append(change.new)

    def may_follow_as_well(self, change: SizeChange) -> None:
        for keys in self.likely.keys() | self.possible.keys():
            if self.present[keys] == change.old:
                self.possible.setdefault(keys, []).append(change.new)

    def may_follow_in_ratio(self, change: SizeChange) -> None:
        """Let integers that divide the old size, or that it divides, follow in proportion."""
        for keys, value in self.present.items():
            whole = value > 0 and change.old > 0 and (value % change.old == 0 or change.old % value == 0)
            if whole and value != change.old and value * change.new % change.old == 0 != change.new:
                self.possible.setdefault(keys, []).append(value * change.new // change.old)

    def slots(self) -> tuple[Slot, ...]:
        slots = []
        for keys, value in self.present.items():
            options = [*self.likely.get(keys, ()), value, *self.possible.get(keys, ())]
            if len(options) > 1:
                slots.append(Slot(keys, tuple(dict.fromkeys(options)), value))
        return tuple(slots)


def _around(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path


def _integers(module: nn.Module, *, nested: bool = True) -> Iterator[tuple[Keys, int]]:
    for name, value in vars(module).items():
        if name not in OF_TORCH and (nested or isinstance(value, int)):
            yield from _inside((name,), value)


def _inside(keys: Keys, value: Any) -> Iterator[tuple[Keys, int]]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield keys, value
    elif isinstance(value, (tuple, list, dict)) and len(value) <= _LARGEST_CONTAINER:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inside((*keys, key), item)


def _replaced(value: Any, keys: Keys, new: int) -> Any:
    if not keys:
        return new
    key: Any = keys[0]
    inner = _replaced(value[key], keys[1:], new)
    if isinstance(value, dict):
        return type(value)({**value, key: inner})
    items = [inner if position == key else item for position, item in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
