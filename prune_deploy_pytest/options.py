"""Options of the fixtures, from the arguments, else the marker, the command line, the ini file, or the defaults."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import pytest

__all__ = [
    "MARKER",
    "POLICIES",
    "CompareOptions",
    "File",
    "MeasureOptions",
    "add_options",
    "chosen",
    "marked",
    "results_folder",
]

File: TypeAlias = str | os.PathLike[str]


class _Options(TypedDict, total=False):
    """Options of both fixtures, see docs/ci/pytest.md."""

    backend: str
    precision: str
    threads: int | None
    device: str | None
    batch: int | None
    shapes: Mapping[str, Sequence[int]] | None
    inputs: File | Mapping[str, Any] | None
    input_ranges: Mapping[str, tuple[float, float]] | None
    cores: Sequence[int] | None
    trials: int | None
    budget_s: float
    fast: bool
    check: bool
    seed: int
    inconclusive: Literal["fail", "warn", "skip"]
    unfit: Literal["fail", "warn", "skip", "accept"]
    unavailable: Literal["fail", "skip"]


class CompareOptions(_Options, total=False):
    """Options of ``deploy_compare``."""

    margin: float
    strict: bool


class MeasureOptions(_Options, total=False):
    """Options of ``deploy_measure``."""

    percentile: float


MARKER = "model_speed"

POLICIES = ("inconclusive", "unfit", "unavailable")
"""Arguments that say what follows from an answer; they are not passed to the measuring process."""

_CHOICES = ("fail", "warn", "skip")
_PERCENTILES = (50, 90, 99, 99.9)
_DEFAULTS: dict[str, Any] = {
    "backend": "ort",
    "budget_s": 60.0,
    "margin": 0.03,
    "percentile": 50,
    **dict.fromkeys(POLICIES, "fail"),
}
"""The measuring process has its own defaults for the other arguments."""
_KNOWN = CompareOptions.__annotations__ | MeasureOptions.__annotations__
_CONFIGURED = {
    "budget_s": ("budget", "SECONDS", "seconds for each comparison or measurement; default: 60"),
    "inconclusive": (
        "inconclusive",
        "POLICY",
        "what undecided is: fail, warn or skip; default: fail",
    ),
    "unfit": (
        "unfit",
        "POLICY",
        "what a too noisy machine is: fail, warn, skip or accept; default: fail",
    ),
    "unavailable": ("unavailable", "POLICY", "what a backend that cannot run here is: fail or skip; default: fail"),
}
"""Argument -> option on the command line and in the ini file, its metavar and help."""
_RESULTS = ("results", "DIR", "keep the results of each comparison and measurement in this folder, for deploy report")


def add_options(parser: pytest.Parser) -> None:
    """Add the options to the command line and to the ini file."""
    group = parser.getgroup("prune-deploy", "speed of models (prune-deploy)")
    for name, metavar, text in (*_CONFIGURED.values(), _RESULTS):
        group.addoption(f"--deploy-{name}", dest=f"deploy_{name}", metavar=metavar, default=None, help=text)
        parser.addini(f"deploy_{name}", text, default="")


def results_folder(config: pytest.Config) -> Path | None:
    """Return the folder that keeps results; None if they are not kept."""
    if given := config.getoption("deploy_results"):
        return config.invocation_params.dir / str(given)
    if given := config.getini("deploy_results"):
        return config.rootpath / str(given)
    return None


def marked(item: pytest.Item) -> dict[str, Any]:
    """Return the arguments of a test's markers; the closest marker wins.

    Raises
    ------
    pytest.UsageError
        A marker has an argument that no fixture knows.
    """
    __tracebackhide__ = True
    found: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):
        if marker.args:
            raise pytest.UsageError(f"{MARKER} takes arguments by name, for example {MARKER}(margin=0.03)")
        _require_known(MARKER, marker.kwargs, _KNOWN)
        found |= marker.kwargs
    return found


def chosen(
    who: str, given: Mapping[str, Any], marks: Mapping[str, Any], known: Collection[str], config: pytest.Config
) -> dict[str, Any]:
    """Return the options that are set, and the defaults of the others; an argument that is None is not set.

    Parameters
    ----------
    who : str
        The fixture, for the message.
    given, marks : Mapping
        Arguments of the call and of the markers; in markers, those of the other fixture are ignored.
    known : collection of str
        Options of the fixture.
    config : pytest.Config
        Configuration of the session.

    Raises
    ------
    pytest.UsageError
        A value is invalid; the message is one line.
    """
    __tracebackhide__ = True
    _require_known(who, given, known)
    values = {name: value for name, value in _DEFAULTS.items() if name in known}
    sources = [(f"the marker {MARKER}", {name: value for name, value in marks.items() if name in known}), (who, given)]
    configured = (_configured(name, option, config) for name, (option, *_) in _CONFIGURED.items() if name in known)
    for source, arguments in (*configured, *sources):
        for name, value in arguments.items():
            if value is None:
                continue
            if (complaint := _complaint(name, value)) is not None:
                raise pytest.UsageError(f"{source}: {name}{complaint}, got {value!r}")
            values[name] = float(value) if name == "budget_s" else value
    return values


def _require_known(who: str, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    __tracebackhide__ = True
    for name in arguments:
        if name not in known:
            from difflib import get_close_matches  # a third of the import time of this package

            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(known))}"
            raise pytest.UsageError(f"{who} has no argument {name!r}; {hint}")


def _configured(name: str, option: str, config: pytest.Config) -> tuple[str, dict[str, Any]]:
    if (given := config.getoption(f"deploy_{option}")) is not None:
        return f"--deploy-{option}", {name: given}
    return f"deploy_{option} of the ini file", {name: config.getini(f"deploy_{option}") or None}


def _complaint(name: str, value: Any) -> str | None:
    """Say what a value must be, None if it is valid; what only the measuring process can check is left to it."""
    test, wanted = _RULES.get(name, (lambda _: True, ""))
    try:
        return None if test(value) else wanted
    except (AttributeError, TypeError, ValueError):
        return wanted


def _is_whole(value: Any, least: int = 1) -> bool:
    return operator.index(value) >= least and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _are_shapes(value: Any) -> bool:
    return all(_is_whole(size, 0) for sizes in value.values() for size in sizes)


def _are_ranges(value: Any) -> bool:
    return all(float(low) <= float(high) for low, high in value.values())


_COUNT = (_is_whole, " must be a whole number of at least 1")
_TEXT = (_is_text, " must be text")
_SWITCH = (_is_switch, " must be True or False")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backend": (_is_text, " is one name, for example 'ort'; parametrize a test of several"),
    "precision": _TEXT,
    "device": _TEXT,
    "threads": _COUNT,
    "batch": _COUNT,
    "trials": _COUNT,
    "seed": (lambda value: _is_whole(value, 0), " must be a whole number of at least 0"),
    "cores": (lambda value: all(_is_whole(core, 0) for core in value), " must be whole numbers, for example [0, 1]"),
    "strict": _SWITCH,
    "fast": _SWITCH,
    "check": _SWITCH,
    "shapes": (_are_shapes, " must be sizes by the names of inputs, for example {'input': (1, 3, 224, 224)}"),
    "input_ranges": (_are_ranges, " must be two numbers by the names of inputs, for example {'input': (0, 1)}"),
    "inputs": (
        lambda value: isinstance(value, (str, os.PathLike, Mapping)),
        " must be a file of numpy.savez, or arrays and numbers by the names of inputs",
    ),
    "budget_s": (lambda value: 0 < float(value) < math.inf, " must be a positive number of seconds"),
    "margin": (lambda value: 0 < value < 1, " must lie between 0 and 1, for example 0.03 for 3 %"),
    "percentile": (lambda value: value in _PERCENTILES, f" must be one of {', '.join(map(str, _PERCENTILES))}"),
    "inconclusive": (_CHOICES.__contains__, f" must be one of {', '.join(_CHOICES)}"),
    "unfit": ((*_CHOICES, "accept").__contains__, f" must be one of {', '.join(_CHOICES)}, accept"),
    "unavailable": (("fail", "skip").__contains__, " must be one of fail, skip"),
}
