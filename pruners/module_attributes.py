"""Integers in which people's modules repeat sizes (``num_heads``, ``split_indexes``), and what they may become.

A size that is written into Python code shows in the exported graph as a constant of a view or a split. Where pruning
changes that constant, the number is looked for among the attributes of the module whose code made the node, then
among those of the modules around it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
"""Words in names of attributes that count something else than channels."""


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


@dataclass(frozen=True, slots=True)
class Slot:
    """One integer of a module's attributes that may repeat a size.

    Parameters
    ----------
    keys : tuple
        Name of the attribute, then indices or keys into nested tuples, lists and dictionaries.
    options : tuple of int
        Values that it may take, the likeliest first; one of them is the present value.
    """

    keys: Keys
    options: tuple[int, ...]

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
        In the module that made a change: integers equal to the old size, which are taken to follow (last choice if
        their name speaks of geometry), and integers in a whole ratio to it, which are taken to stay. In the modules
        around it, where it has none that is equal: integers equal to the old size, taken to stay.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    options: dict[str, dict[Keys, list[int]]] = {}
    for change in dict.fromkeys(changes):
        path = re.sub(r"@\d+", "", change.module)
        if path not in modules or path in settled:
            continue
        own = list(_integers(modules[path]))
        for keys, value in own:
            new = _follows(value, change)
            if new is not None:
                known = options.setdefault(path, {}).setdefault(keys, [value])
                likely = value == change.old and not _GEOMETRY.search(str(keys[0]))
                if new not in known:
                    known.insert(known.index(value) if likely else len(known), new)
        if any(value == change.old for _, value in own):
            continue
        for outer in _around(path):
            for keys, value in _integers(modules[outer]):
                if value == change.old and outer not in settled:
                    known = options.setdefault(outer, {}).setdefault(keys, [value])
                    known.extend({change.new} - set(known))
    return {
        path: tuple(Slot(keys, tuple(values)) for keys, values in of_module.items())
        for path, of_module in options.items()
    }


def _follows(value: int, change: SizeChange) -> int | None:
    """Return what an integer in a whole ratio to the old size becomes; None where it has nothing to do with it."""
    whole = value > 0 and change.old > 0 and (value % change.old == 0 or change.old % value == 0)
    if not whole or value * change.new % change.old or not change.new:
        return None
    return value * change.new // change.old


def _around(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path


def _integers(module: nn.Module) -> Iterator[tuple[Keys, int]]:
    for name, value in vars(module).items():
        if name not in OF_TORCH:
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
