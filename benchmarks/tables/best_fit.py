"""Fit measured plans with the block size that predicts held-out ones best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from math import sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.errors import SettingError
from benchmarks.process.waiting import look
from benchmarks.tables.fit import Fit, Run, dense_of, fitted, held_out
from benchmarks.tables.staircases import LayerSizes
from benchmarks.tables.table import HeldOut

__all__ = ["BLOCKS", "best_fit", "blocks_in_doubt", "quality"]

BLOCKS = (1, 4, 8, 16, 32, 64)
"""Block sizes to try."""
_OFF = (4, 8, 16, 32)
"""Sizes that channels may need to be a multiple of, besides the block: some kernels take two blocks at a time."""

_FOLDS = 5

_NOISE = 2.0
"""A block is as good as the best one if it predicts layers worse by no more than these standard errors."""
_AS_GOOD = 1.2
"""And by no more than this factor: a few runs that show it clearly are few standard errors."""
_FINE = 8
"""Blocks up to this one leave enough counts to choose from: the factor alone decides."""
_ENOUGH_LAYERS = 5
"""Timed layers from which on their median tells what slows a whole run; of fewer, all errors may be the block's."""

Floats = npt.NDArray[np.float64]


def best_fit(
    runs: Sequence[Run],
    sizes: Mapping[str, LayerSizes],
    *,
    blocks: Sequence[int] = BLOCKS,
    near: Sequence[Run] = (),
) -> tuple[Fit, HeldOut, tuple[float, ...]]:
    """Fit the runs with the largest block size that predicts the layers of held-out runs as well as any but for noise.

    The largest, since counts that fill larger blocks fill the smaller ones too.

    Parameters
    ----------
    runs : sequence of Run
        At least ten.
    sizes : Mapping of str to LayerSizes
        By weighted layer, see `layer_sizes`.
    blocks : sequence of int
        Block sizes to try.
    near : sequence of Run
        More runs, of plans near the one sought; each weighs as much as several others.

    Returns
    -------
    (Fit, HeldOut, tuple of float)
        The fit to all runs, the held-out errors, and the held-out predictions in nanoseconds.

    Raises
    ------
    SettingError
        All layers of a plan took no time by the profiler's clock.
    """
    dense_ns = dense_of([*runs, *near])
    measured = np.array([run.share for run in runs]) * dense_ns
    tried = _tried(runs, near, sizes, blocks)
    block = max(_as_good({block: each.errors for block, each in tried.items()}))
    _, off, predicted = tried[block]
    fit = fitted([*runs, *near], sizes, block, off, dense_ns, n_near=len(near))
    return fit, quality(predicted, measured), tuple(predicted.tolist())


def blocks_in_doubt(runs: Sequence[Run], sizes: Mapping[str, LayerSizes]) -> tuple[int, ...]:
    """Return the block sizes that more runs should tell apart, in order; only one if it is clear.

    Those that predict the layers of held-out runs as well as the best, within noise; `best_fit` takes the largest of
    these. Of blocks up to 8 only the largest is among them, or the two largest if there are no others.

    Parameters
    ----------
    runs, sizes
        As in `best_fit`.

    Raises
    ------
    SettingError
        As in `best_fit`.
    """
    good = _as_good({block: each.errors for block, each in _tried(runs, (), sizes, BLOCKS).items()})
    coarse = [block for block in good if block > _FINE]
    fine = [block for block in good if block <= _FINE]
    return (*fine[-1 if coarse else -2 :], *coarse)


def _tried(
    runs: Sequence[Run], near: Sequence[Run], sizes: Mapping[str, LayerSizes], blocks: Sequence[int]
) -> dict[int, _HeldOut]:
    """Return the held-out predictions with each block, and the multiple that suits it best."""
    if not all(any(run.layers_ns.values()) for run in runs):
        raise SettingError(
            "the layers of this network are too short for the profiler's clock, so no latency table can be made"
        )
    dense_ns, folds = dense_of([*runs, *near]), _folds(runs)
    best: dict[int, _HeldOut] = {}
    for block in blocks:
        tried = []
        for off in sorted({block, *_OFF}):
            look()  # the machine is held: nothing else reports progress during a long fit
            tried.append(_held_out(runs, near, sizes, block, off, dense_ns, folds))
        best[block] = min(tried, key=lambda each: float(each.errors.mean()))
    return best


def quality(predicted: Sequence[float] | Floats, measured: Sequence[float] | Floats) -> HeldOut:
    """Return the errors of predicted times, as a share of the measured ones."""
    first, second = np.asarray(predicted, float), np.asarray(measured, float)
    apart = np.abs(first / second - 1)
    ranks = [_ranks(values) for values in (first, second)]
    ordered = all(np.ptp(each) for each in ranks)
    return HeldOut(
        n_plans=len(first),
        mape=float(apart.mean()),
        worst=float(apart.max()),
        rank_correlation=float(np.clip(np.corrcoef(ranks[0], ranks[1])[0, 1], -1, 1)) if ordered else None,
    )


def _ranks(values: Floats) -> Floats:
    """Return ranks; equal values share the mean of theirs."""
    ordered = np.sort(values)
    ends = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    return np.asarray(sum(ends) / 2, float)


def _as_good(errors: Mapping[int, Floats]) -> tuple[int, ...]:
    """Return the blocks whose errors, one for each run, are as small as those of the best one, but for noise.

    Going up from the best one, the first that is not ends them.
    """
    best = min(errors, key=lambda block: float(errors[block].mean()))
    least = float(errors[best].mean())

    def as_good(block: int) -> bool:
        apart = errors[block] - errors[best]
        noise = float(apart.std(ddof=1)) / sqrt(len(apart))
        by_chance = block <= _FINE or float(apart.mean()) <= _NOISE * noise
        return by_chance and float(errors[block].mean()) <= _AS_GOOD * least

    coarser = takewhile(as_good, (block for block in sorted(errors) if block >= best))
    return (*(block for block in sorted(errors) if block < best and as_good(block)), *coarser)


class _HeldOut(NamedTuple):
    """Held-out predictions of runs with one block and multiple.

    Layers show the block better than their sum does: their errors do not cancel out.
    """

    errors: Floats
    off: int
    whole_ns: Floats


def _folds(runs: Sequence[Run]) -> list[int]:
    """Return the fold in which each run is held out; equal plans share one."""
    first = [next(at for at, each in enumerate(runs) if each.counts == run.counts) for run in runs]
    if len(set(first)) < 2 * _FOLDS:  # too few remain to fit
        first = list(range(len(runs)))
    # Plans of one kind come at regular intervals: shifting the folds puts all kinds into each.
    return [(index + index // _FOLDS) % _FOLDS for index in first]


def _held_out(
    runs: Sequence[Run],
    near: Sequence[Run],
    sizes: Mapping[str, LayerSizes],
    block: int,
    off: int,
    dense_ns: float,
    folds: Sequence[int],
) -> _HeldOut:
    everything = [*runs, *near]
    layers, whole = held_out(everything, sizes, block, off, dense_ns, folds=folds, n_near=len(near))
    errors = [_error_of_layers(guess, run.layers_ns) for guess, run in zip(layers, runs, strict=True)]
    return _HeldOut(np.array(errors), off, np.maximum(1.0, whole))


def _error_of_layers(predicted: Mapping[str, float], measured: Mapping[str, float]) -> float:
    """Return the sum of the errors of a run's layers, as a share of their time.

    What all layers have in common, as on a busy machine, is no error: their median, weighted by time, says how much
    slower the run was.
    """
    both = sorted(
        (measured[name] / ns, measured[name])
        for name, ns in predicted.items()
        if ns > 0 and measured.get(name, 0.0) > 0
    )
    reached = np.cumsum([ns for _, ns in both])
    slower = both[int(np.searchsorted(reached, reached[-1] / 2))][0] if len(both) >= _ENOUGH_LAYERS else 1.0
    names = predicted.keys() | measured.keys()
    errors = sum(abs(slower * predicted.get(name, 0.0) - measured.get(name, 0.0)) for name in names)
    return errors / sum(measured.values())
