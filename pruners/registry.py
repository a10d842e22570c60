"""Which pruning methods there are: a table for ours, entry points (group ``prune_deploy.methods``) for others'."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from pruners.base import PruningMethod
from pruners.errors import MethodError, UnknownMethodError, did_you_mean

__all__ = ["ENTRY_POINT_GROUP", "create", "method_class", "names"]

ENTRY_POINT_GROUP = "prune_deploy.methods"

_BUILT_IN = {
    "l1": "pruners.methods.l1:L1",
    "criterion": "pruners.methods.criterion:ByCriterion",
    "taylor": "pruners.methods.taylor:Taylor",
    "thinet": "pruners.methods.thinet:ThiNet",
    "regression": "pruners.methods.regression:Regression",
    "slimming": "pruners.methods.slimming:Slimming",
    "sss": "pruners.methods.sss:SSS",
    "autopruner": "pruners.methods.autopruner:AutoPruner",
    "dhp": "pruners.methods.dhp:DHP",
    "magnitude": "pruners.methods.magnitude:Magnitude",
    "lottery": "pruners.methods.lottery:Lottery",
    "uniform": "pruners.methods.uniform:Uniform",
    "random": "pruners.methods.random_units:Random",
}
_COMPETITORS = {"torch-pruning": "pruners.methods.group_norm:GroupNorm"}
"""Pruners of other libraries, which studies compare with. They know few constraints, and need their library."""


def _table() -> dict[str, str]:
    table = dict(_BUILT_IN)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in table:
            raise MethodError(f"method {point.name!r} is registered twice: {table[point.name]} and {point.value}")
        table[point.name] = point.value
    return table


def names(removes: Literal["channels", "weights"] | None = None) -> tuple[str, ...]:
    """List the registered methods, ours first: all, or those that remove channels, or set weights to zero.

    Competitors, which are other libraries', are not listed.
    """
    return tuple(name for name in _table() if removes is None or method_class(name).removes == removes)


def method_class(name: str) -> type[PruningMethod]:
    """Return the class of the method called `name`: its docstring, paper and settings, without making one.

    Raises
    ------
    UnknownMethodError
        No such method; the message names the nearest one.
    MethodError
        The table or an entry point names something that cannot be imported or is not a method.
    """
    table = {**_table(), **_COMPETITORS}
    if name not in table:
        raise UnknownMethodError(f"unknown method {name!r}{did_you_mean(name, table)} (there are: {', '.join(table)})")
    module, _, attribute = table[name].partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MethodError(f"method {name!r} cannot be loaded from {table[name]}: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, PruningMethod)):
        raise MethodError(f"method {name!r}: {table[name]} is not a subclass of pruners.base.PruningMethod")
    return loaded


def create(name: str, **settings: Any) -> PruningMethod:
    """Make the method called `name` with its settings.

    Raises
    ------
    UnknownMethodError
        No such method.
    MethodError
        An unknown or illegal setting.
    """
    return method_class(name)(**settings)
