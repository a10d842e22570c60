"""Simulated latency histories, one value per commit, with the commits at which the level changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CASES", "Case", "History", "simulated"]

_LEVEL_NS = 1e7
_NOISE = 0.01
_Values = np.ndarray[tuple[int], np.dtype[np.float64]]
_Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class History:
    """One history.

    Parameters
    ----------
    values : tuple of float
        Nanoseconds, one per commit.
    steps : tuple of int
        Indices of the first value at each new level.
    """

    values: tuple[float, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of history.

    Parameters
    ----------
    name : str
        Name in the table.
    noise : str
        Name of a kind of noise, see below.
    steps : str
        ``"none"``, ``"one"``, ``"two"``, or ``"back"``: a step that is undone ten commits later.
    """

    name: str
    noise: str = "normal"
    steps: str = "none"


def _normal(n: int, draw: _Generator) -> _Values:
    return _NOISE * draw.standard_normal(n)


def _outliers(n: int, draw: _Generator) -> _Values:
    """One value in twenty is 10 to 50 % too high: a busy machine."""
    return _normal(n, draw) + np.where(draw.random(n) < 0.05, draw.uniform(0.1, 0.5, n), 0.0)


def _heavy(n: int, draw: _Generator) -> _Values:
    """Student's t with 3 degrees of freedom, scaled to the same standard deviation."""
    return _NOISE / math.sqrt(3) * draw.standard_t(3, n)


def _uneven(n: int, draw: _Generator) -> _Values:
    """0.5 % before a random commit and 2 % after it, or the other way round."""
    early = np.arange(n) < draw.integers(n // 4, 3 * n // 4)
    return np.where(early == (draw.random() < 0.5), 0.5, 2.0) * _normal(n, draw)


def _drift(n: int, draw: _Generator) -> _Values:
    """2 % up or down over the whole history, gradually."""
    return _normal(n, draw) + np.linspace(0, draw.choice([-1, 1]) * 0.02, n)


def _correlated(n: int, draw: _Generator) -> _Values:
    """Each value keeps half of the deviation of the one before."""
    values = draw.standard_normal(n)
    for at in range(1, n):
        values[at] = 0.5 * values[at - 1] + np.sqrt(0.75) * values[at]
    return _NOISE * values


def _two_levels(n: int, draw: _Generator) -> _Values:
    """Three values in ten are 3 % higher: the processor boosts, or it does not."""
    return _normal(n, draw) + np.where(draw.random(n) < 0.3, 0.03, 0.0)


_NOISES: Mapping[str, Callable[[int, _Generator], Any]] = {
    "normal": _normal,
    "outliers": _outliers,
    "heavy tails": _heavy,
    "uneven": _uneven,
    "drift": _drift,
    "correlated": _correlated,
    "two levels": _two_levels,
}

CASES = (
    *(Case(f"{noise}, no step", noise) for noise in _NOISES),
    *(Case(f"{noise}, one step", noise, "one") for noise in _NOISES if noise != "two levels"),
    Case("normal, two steps", steps="two"),
    Case("normal, a step and back", steps="back"),
)


def simulated(case: Case, draw: np.random.Generator, *, n: int = 60, size: float = 0.05, nearest: int = 3) -> History:
    """Draw one history.

    Parameters
    ----------
    case : Case
        Its kind.
    draw : numpy.random.Generator
        Random generator.
    n : int, default=60
        Number of commits.
    size : float, default=0.05
        Size of a step, as a share of the level.
    nearest : int, default=3
        Minimum number of commits between a single step and either end.
    """
    noise = _NOISES[case.noise](n, draw)
    up = draw.choice([-1, 1]) * np.log1p(size)
    if case.steps == "one":
        moves = {int(draw.integers(nearest, n - nearest + 1)): up}
    elif case.steps == "two":
        first = int(draw.integers(5, n - 15))
        moves = {first: up, int(draw.integers(first + 8, n - 4)): draw.choice([-1, 1]) * up}
    elif case.steps == "back":
        first = int(draw.integers(5, n - 15))
        moves = {first: up, first + 10: -up}
    else:
        moves = {}
    for at, move in moves.items():
        noise[at:] += move
    return History(tuple(float(one) for one in _LEVEL_NS * np.exp(noise)), tuple(moves))
