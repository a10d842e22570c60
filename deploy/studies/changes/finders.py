"""Change finders to compare: ours, ruptures alone, Apache Otava, and the two-point rule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import ruptures

from benchmarks.process.program import run_program
from deploy.ci.history.steps import FEWEST, Values, find_changes, noise_of, without_outliers
from deploy.errors import DeployError

__all__ = ["SMALLEST", "Finder", "finders"]

Finder = Callable[[Sequence[Sequence[float]]], list[list[int]]]
"""Maps histories to the indices of the first commits after each change."""

SMALLEST = 0.02
_TIMEOUT_S = 3600.0
_OTAVA = """
import json, sys
from otava.analysis import compute_change_points
asked = json.load(sys.stdin)
print(json.dumps([[int(one.index) for one in compute_change_points(values, **asked["options"])[0]]
                  for values in asked["histories"]]))
"""
"""Otava needs its own versions of numpy and scipy, so it runs in a separate environment."""


def finders(otava: str | None = None) -> dict[str, Finder]:
    """Return all finders by name; those of Otava need the path of a Python that has it."""
    found: dict[str, Finder] = {
        "ours": _ours,
        "ruptures alone: least squares": partial(_each, _least_squares),
        "ruptures alone: absolute values": partial(_each, _absolute),
        "two points, 4 %": partial(_each, _two_points),
    }
    if otava is not None:
        found["Otava as it comes"] = partial(_otava, otava, {})
        found["Otava, changes of 2 %"] = partial(_otava, otava, {"min_magnitude": SMALLEST})
        found["the same without outliers, as ours"] = partial(_otava, otava, {"min_magnitude": SMALLEST}, clipped=True)
    return found


def _ours(histories: Sequence[Sequence[float]]) -> list[list[int]]:
    return [[change.at for change in find_changes(values, SMALLEST)] for values in histories]


def _each(find: Callable[[Values], list[int]], histories: Sequence[Sequence[float]]) -> list[list[int]]:
    return [find(np.log(np.asarray(values))) for values in histories]


def _least_squares(logs: Values) -> list[int]:
    """Cut with the penalty of Schwarz's criterion: two parameters per cut and a margin for the search."""
    finder = ruptures.KernelCPD(kernel="linear", min_size=FEWEST).fit((logs / noise_of(logs)).reshape(-1, 1))
    return list(finder.predict(pen=3 * math.log(len(logs))))[:-1]


def _absolute(logs: Values) -> list[int]:
    finder = ruptures.Pelt(model="l1", min_size=FEWEST, jump=1).fit(logs / noise_of(logs))
    return list(finder.predict(pen=3 * math.log(len(logs))))[:-1]


def _two_points(logs: Values) -> list[int]:
    """Flag a commit that differs from the one before, as a threshold on stored results does."""
    return [int(at) + 1 for at in np.flatnonzero(np.abs(np.diff(logs)) > math.log(1.04))]


def _otava(
    python: str, options: Mapping[str, float], histories: Sequence[Sequence[float]], *, clipped: bool = False
) -> list[list[int]]:
    if clipped:
        histories = [np.exp(without_outliers(np.log(np.asarray(values)))).tolist() for values in histories]
    asked = json.dumps({"options": options, "histories": histories})
    ran = run_program([python, "-c", _OTAVA], given=asked.encode(), timeout_s=_TIMEOUT_S)
    if ran.code:
        raise DeployError(f"{python} cannot run Otava: {ran.errors.decode(errors='replace').splitlines()[-1:]}")
    found: list[list[int]] = json.loads(ran.output)
    return found
