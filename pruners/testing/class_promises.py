"""Checks of a method's class, before anything is pruned: messages, descriptions, ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pruners.errors import MethodError, NothingToPruneError, SelectorError, TargetError
from pruners.registry import create, method_class
from pruners.target import Constraints, Target
from pruners.task import PruningTask
from pruners.testing.networks import make_network, make_task
from pruners.testing.promises import prune_or_skip

__all__ = ["CLASS_PROMISES"]


def class_is_described(method: str) -> None:
    """Check that the class says its name, its paper and whether it needs data, and has a docstring."""
    declared = method_class(method)
    assert declared.name == method
    assert declared.paper
    assert declared.__doc__
    assert isinstance(declared.needs_data, bool)
    assert all(item.description for item in declared.Settings.model_fields.values())


def unknown_setting_is_refused(method: str) -> None:
    """Check that a misspelt setting is an error of one line that names the method and the setting."""
    _refuses(MethodError, method, "no_such_setting", settings={"no_such_setting": 1})


def missing_data_is_said(method: str) -> None:
    """Check that a method that needs data says so before it does anything, and that others work without data."""
    task = make_task(make_network("plain"), batches=None, loss=None, train=None)
    if method_class(method).needs_data:
        _refuses(MethodError, method, "batches", task=task)
    else:
        assert create(method).prune(task).plan.removed_units


def unreachable_target_is_refused(method: str) -> None:
    """Check that a target below the floors is an error that says what can be reached."""
    task = make_task(make_network("plain"), target=Target(of="params", kept_fraction=1e-4))
    _refuses(TargetError, method, "is left", task=task)


def unknown_layers_are_refused(method: str) -> None:
    """Check that a pattern that matches no layer is an error, for exclusions and for ratios."""
    model = make_network("plain")
    _refuses(SelectorError, method, "'stm'", task=make_task(model, constraints=Constraints(exclude=("stm",))))
    _refuses(SelectorError, method, "'cnv'", task=make_task(model, target=Target(of="ratios", ratios={"cnv": 0.5})))


def nothing_to_prune_is_said(method: str) -> None:
    """Check that excluding every layer, or ratios that round to nothing, is an error."""
    model = make_network("plain")
    _refuses(NothingToPruneError, method, "excluded", task=make_task(model, constraints=Constraints(exclude=("*",))))
    _refuses(NothingToPruneError, method, "", task=make_task(model, target=Target(of="ratios", ratios={"conv": 0.0})))


def ratios_are_followed(method: str) -> None:
    """Check that with ratios each named group keeps ``floor(n_units * (1 - ratio))`` units, and others all."""
    target = Target(of="ratios", ratios={"conv": 0.3, "hidden": 0.5})
    task = make_task(make_network("plain"), target=target, constraints=Constraints())
    kept = prune_or_skip(method, {}, task).plan.kept
    assert {name: len(units) for name, units in kept.items()} == {"conv": 8, "hidden": 8}


CLASS_PROMISES = (
    class_is_described,
    unknown_setting_is_refused,
    missing_data_is_said,
    unreachable_target_is_refused,
    unknown_layers_are_refused,
    nothing_to_prune_is_said,
    ratios_are_followed,
)
"""Each takes the registered name of a method and uses its default settings."""


def _refuses(
    expected: type[Exception],
    method: str,
    fragment: str,
    *,
    task: PruningTask | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    try:
        made = create(method, **(settings or {}))
        if task is not None:
            made.prune(task)
    except expected as error:
        assert fragment in str(error), f"the message does not say {fragment!r}: {error}"
        assert "\n" not in str(error)
        return
    raise AssertionError(f"method {method!r} does not raise {expected.__name__}")
