"""Staircases of layer times over kept counts, with the block size that explains the measured plans best.

A kernel computes channels in blocks, so the time of a layer grows by steps: with X and Y the blocks of its input and
output channels, ``t = a + b*X + c*Y + d*X*Y``, and where counts leave a block partly filled, one more step for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.nnls import non_negative_least_squares
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, PlanSpace, Size
from benchmarks.tables.table import HeldOut, LayerTime, MeasuredPlan, Steps, Term

__all__ = ["BLOCKS", "Fit", "Run", "best_fit", "layer_sizes", "quality"]

BLOCKS = (1, 4, 8, 16, 32, 64)
"""Block sizes that are tried."""

_FOLDS = 5
_AS_GOOD = 1.03
"""Of block sizes whose error is that close to the smallest the largest is taken: fewer counts, no time lost."""

Floats = npt.NDArray[np.float64]
Sizes = tuple[Size, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One plan as it was measured.

    Parameters
    ----------
    counts : Mapping of str to int
        Of every group.
    layers_ns : Mapping of str to float
        By weighted layer.
    whole_ns : float
        An unprofiled call.
    backend_version : str, optional
        Of the runtime that ran it.
    """

    counts: Mapping[str, int]
    layers_ns: Mapping[str, float]
    whole_ns: float
    backend_version: str | None = None

    def beside(self, predicted_ns: float) -> MeasuredPlan:
        """Return what is kept of it, beside what was predicted."""
        return MeasuredPlan(
            counts=dict(self.counts),
            whole_ns=self.whole_ns,
            layers_ns=max(1.0, sum(self.layers_ns.values())),
            predicted_ns=predicted_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What was fitted to some runs."""

    block: int
    base_ns: float
    layers: tuple[LayerTime, ...]

    def predict_ns(self, counts: Mapping[str, int]) -> float:
        """Return the time of a whole call."""
        return self.base_ns + sum(layer.time_ns(counts, self.block) for layer in self.layers)


def layer_sizes(graph: onnx.GraphProto, space: PlanSpace) -> dict[str, Sizes]:
    """Return for each weighted layer the sizes of its weights that follow the counts: none, one or two.

    Parameters
    ----------
    graph : GraphProto
        Of the dense network.
    space : PlanSpace
        Made for it.
    """
    constants = frozenset(tensor.name for tensor in graph.initializer)
    grouped = {
        place.node for place in space.places if isinstance(place, AttributePlace) and place.name == "group"
    }  # depthwise: its groups follow the counts
    sizes: dict[str, Sizes] = {"": ()}
    for index, node in enumerate(graph.node):
        if (slot := weight_slot(node, constants)) is not None:
            axes = [
                place.size
                for place in space.places
                if isinstance(place, AxisPlace) and (place.node, place.input) == (index, slot)
            ]
            sizes[node.name or node.output[0]] = tuple(axes[:1] if index in grouped else axes[:2])
    return sizes


def best_fit(
    runs: Sequence[Run], sizes: Mapping[str, Sizes], *, blocks: Sequence[int] = BLOCKS
) -> tuple[Fit, HeldOut, tuple[float, ...]]:
    """Fit the runs with the block size that predicts held-out runs best.

    Parameters
    ----------
    runs : sequence of Run
        At least ten.
    sizes : Mapping of str to tuple of Size
        By weighted layer, see `layer_sizes`.
    blocks : sequence of int
        Block sizes to try.

    Returns
    -------
    (Fit, HeldOut, tuple of float)
        The fit to all runs, how well plans are predicted by fits without them, and these predictions in nanoseconds.
    """
    held_out = {block: _held_out(runs, sizes, block) for block in blocks}
    measured = np.array([run.whole_ns for run in runs])
    errors = {block: float(np.mean(np.abs(predicted / measured - 1))) for block, predicted in held_out.items()}
    block = max(block for block in blocks if errors[block] <= _AS_GOOD * min(errors.values()))
    predicted = held_out[block]
    return _fit(runs, sizes, block), quality(predicted, measured), tuple(predicted.tolist())


def quality(predicted: Sequence[float] | Floats, measured: Sequence[float] | Floats) -> HeldOut:
    """Return how far predicted times are off, as a share of the measured ones."""
    first, second = np.asarray(predicted, float), np.asarray(measured, float)
    apart = np.abs(first / second - 1)
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (first, second)]
    return HeldOut(
        n_plans=len(first),
        mape=float(apart.mean()),
        worst=float(apart.max()),
        rank_correlation=float(np.clip(np.corrcoef(ranks[0], ranks[1])[0, 1], -1, 1)),
    )


def _held_out(runs: Sequence[Run], sizes: Mapping[str, Sizes], block: int) -> Floats:
    predicted = np.zeros(len(runs))
    for fold in range(_FOLDS):
        rest = [run for index, run in enumerate(runs) if index % _FOLDS != fold]
        fit = _fit(rest, sizes, block)
        for index in range(fold, len(runs), _FOLDS):
            predicted[index] = max(1.0, fit.predict_ns(runs[index].counts))
    return predicted


def _fit(runs: Sequence[Run], sizes: Mapping[str, Sizes], block: int) -> Fit:
    names = [name for name in runs[0].layers_ns if any(run.layers_ns.get(name, 0) > 0 for run in runs)]
    fitted = {name: _fit_layer(name, runs, sizes.get(name, ()), block) for name in names}
    guesses = {name: _times(terms, runs, block) for name, terms in fitted.items()}
    summed = np.sum(list(guesses.values()), axis=0)
    whole = np.array([run.whole_ns for run in runs])
    # The profiler makes layers longer, and a call is more than its layers.
    matrix = np.stack([np.ones(len(runs)), summed], axis=1) / whole[:, None]
    base, scale = non_negative_least_squares(matrix, np.ones(len(runs)))
    total = sum(max(run.layers_ns.get(name, 0.0) for run in runs) for name in names) or 1.0
    layers = []
    for name, terms in fitted.items():
        times = np.array([run.layers_ns.get(name, 0.0) for run in runs])
        layers.append(
            LayerTime(
                name=name,
                share=float(times.max() / total),
                error=float(np.mean(np.abs(guesses[name] - times)) / max(times.mean(), 1.0)),
                terms=tuple(term.model_copy(update={"ns": scale * term.ns}) for term in terms),
            )
        )
    return Fit(block=block, base_ns=float(base), layers=tuple(layers))


def _times(terms: Sequence[Term], runs: Sequence[Run], block: int) -> Floats:
    return np.array([sum(term(run.counts, block) for term in terms) for run in runs], float)


def _fit_layer(name: str, runs: Sequence[Run], sizes: Sizes, block: int) -> tuple[Term, ...]:
    times = np.array([run.layers_ns.get(name, 0.0) for run in runs])
    bundles = _bundles(sizes, block)
    columns = np.stack([_times(bundle, runs, block) for bundle in bundles], axis=1)
    weight = 1 / np.maximum(times, max(1.0, 0.05 * times.max()))
    coefficients = non_negative_least_squares(columns * weight[:, None], times * weight)
    return tuple(
        term.model_copy(update={"ns": float(coefficient) * term.ns})
        for coefficient, bundle in zip(coefficients, bundles, strict=True)
        if coefficient > 0
        for term in bundle
    )


def _bundles(sizes: Sizes, block: int) -> list[tuple[Term, ...]]:
    """Return the terms that share one coefficient, with a time of one nanosecond each."""
    blocks = [_blocks(size, block) for size in sizes]
    bundles = [(Term(ns=1),), *blocks]
    if len(blocks) == 2:
        product = [
            Term(ns=first.ns * second.ns, factors=(*first.factors, *second.factors))
            for first in blocks[0]
            for second in blocks[1]
        ]
        bundles.append(tuple(product))
    if block > 1:
        bundles += [
            (Term(ns=1, factors=(Steps(group=group, width=width, partly=True),)),)
            for size in sizes
            for group, width in size.terms
            if len(size.terms) == 1
        ]
    return list(dict.fromkeys(bundles))


def _blocks(size: Size, block: int) -> tuple[Term, ...]:
    terms = [Term(ns=1, factors=(Steps(group=group, width=width),)) for group, width in size.terms]
    return (*([Term(ns=size.base / block)] if size.base > 0 else []), *terms)
