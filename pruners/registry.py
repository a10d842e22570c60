"""Which pruning methods there are: a table for ours, entry points (group ``prune_deploy.methods``) for others'."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from pruners.base import PruningMethod
from pruners.decide.latency import LatencyModel
from pruners.errors import MethodError, TargetError, UnknownMethodError, did_you_mean
from pruners.target import COSTS, Constraints, Target
from pruners.task import Pruned, PruningTask

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ENTRY_POINT_GROUP", "create", "method_class", "names", "prune"]

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


def prune(
    module: nn.Module,
    example_inputs: Any,
    method: str | PruningMethod = "l1",
    *,
    flops: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    weight_bytes: float | None = None,
    activation_bytes: float | None = None,
    ratios: Mapping[str, float] | None = None,
    speed_up: float | None = None,
    table: LatencyModel | None = None,
    constraints: Constraints | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    **task: Any,
) -> Pruned:
    """Prune a network to one target.

    Parameters
    ----------
    module : Module
        It is copied, never modified.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        What one call is made with, see `pruners.task.PruningTask`.
    method : str or PruningMethod, default="l1"
        One of `names`, or one that was made before.
    flops, macs, params, weight_bytes, activation_bytes : float, optional
        Share of that cost that is **kept** at most, in (0, 1).
    ratios : Mapping of str to float, optional
        Share of channels **removed**, by pattern of layer names.
    speed_up : float, optional
        How many times faster than the dense network, more than 1, as `table` predicts.
    table : LatencyModel, optional
        Predicts times, for `speed_up`: a network is not timed here.
    constraints : Constraints, optional
        What the plan must respect besides.
    settings : Mapping of str to Any, optional
        Of a method that is given by its name.
    seed : int, default=0
        Seeds whatever the method draws.
    **task
        ``batches``, ``loss``, ``train``, ``fit``, ``keeper`` and ``progress`` of `pruners.task.PruningTask`.

    Returns
    -------
    Pruned
        With ``model``, ``plan`` and ``verification``, the check that masked and compact network agree.

    Raises
    ------
    TargetError
        Not exactly one target, or one that cannot be met.
    PruneError
        As `pruners.base.Method.prune`.
    """
    shares = dict(zip(COSTS, (flops, macs, params, weight_bytes, activation_bytes), strict=True))
    given = [name for name, share in (*shares.items(), ("ratios", ratios), ("speed_up", speed_up)) if share is not None]
    if len(given) != 1:
        kinds = ", ".join((*COSTS, "ratios", "speed_up"))
        raise TargetError(f"give one of {kinds}; got {' and '.join(given) or 'none'}")
    if isinstance(method, PruningMethod) and settings:
        raise MethodError(f"method {method.name!r} was made with its settings: give its name, or leave settings out")
    if speed_up is not None:
        target = Target(speed_up=speed_up, table=table)
    elif table is not None:
        raise TargetError(f"a latency table belongs to speed_up, not to {given[0]}")
    elif ratios is not None:
        target = Target(of="ratios", ratios=ratios)
    else:
        of = next(name for name in COSTS if shares[name] is not None)
        target = Target(of=of, kept_fraction=shares[of] or 0.0)
    made = create(method, **(settings or {})) if isinstance(method, str) else method
    return made.prune(
        PruningTask(
            model=module,
            example_inputs=example_inputs,
            target=target,
            constraints=constraints or Constraints(),
            seed=seed,
            **task,
        )
    )
