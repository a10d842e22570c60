"""Fit the staircases of layer times, and the times of whole calls to their sums, for blocks of a given size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from backends.modelfile import node_name
from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.least_squares import robust_least_squares
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, PlanSpace
from benchmarks.tables.staircases import LayerSizes, Staircases
from benchmarks.tables.table import LayerTime, MeasuredPlan

__all__ = ["Fit", "Run", "dense_of", "fitted", "held_out", "layer_sizes"]

_NEAR = 4.0
"""Weight of a run of a plan near the one sought."""
_LIKELY_BASE = 0.03
"""Plausible base, as a share of the dense network's time."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured plan.

    Parameters
    ----------
    counts : Mapping of str to int
        Kept units of every group.
    layers_ns : Mapping of str to float
        Time of each weighted layer.
    share : float
        Time of an unprofiled call, as a share of the dense network's in turn with it.
    dense_ns : float
        The dense network's fastest call in that comparison.
    backend_version : str, optional
        Version of the runtime.
    """

    counts: Mapping[str, int]
    layers_ns: Mapping[str, float]
    share: float
    dense_ns: float
    backend_version: str | None = None

    @classmethod
    def of(cls, plan: MeasuredPlan, dense_ns: float) -> Run:
        """Return the run behind a plan stored in a table; `dense_ns` is that of the table."""
        return cls(counts=plan.counts, layers_ns=plan.layers_ns, share=plan.whole_ns / dense_ns, dense_ns=plan.dense_ns)

    def beside(self, predicted_ns: float, dense_ns: float) -> MeasuredPlan:
        """Return the record to store, with the predicted time; `dense_ns` is the dense network's time."""
        return MeasuredPlan(
            counts=dict(self.counts),
            whole_ns=max(1.0, self.share * dense_ns),
            layers_ns=dict(self.layers_ns),
            dense_ns=self.dense_ns,
            predicted_ns=predicted_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Model of layer times fitted to some runs."""

    block: int
    off: int
    base_ns: float
    layers: tuple[LayerTime, ...]

    def predict_ns(self, counts: Mapping[str, int]) -> float:
        """Return the time of a whole call."""
        return self.base_ns + sum(layer.time_ns(counts, self.block) for layer in self.layers)


def layer_sizes(graph: onnx.GraphProto, space: PlanSpace) -> dict[str, LayerSizes]:
    """Return for each weighted layer what its time depends on.

    Parameters
    ----------
    graph : GraphProto
        Graph of the dense network.
    space : PlanSpace
        Its plan space.
    """
    constants = frozenset(tensor.name for tensor in graph.initializer)
    block_of = {node: block for block in space.blocks for node in block.nodes}
    grouped = {
        place.node for place in space.places if isinstance(place, AttributePlace) and place.name == "group"
    }  # depthwise: its groups depend on the counts
    sizes = {"": LayerSizes()}
    for index, node in enumerate(graph.node):
        if (slot := weight_slot(node, constants)) is not None:
            axes = [
                place.size
                for place in space.places
                if isinstance(place, AxisPlace) and (place.node, place.input) == (index, slot)
            ]
            sizes[node_name(node)] = LayerSizes(tuple(axes[:1] if index in grouped else axes[:2]), block_of.get(index))
    return sizes


def dense_of(runs: Sequence[Run]) -> float:
    """Return nanoseconds of the dense network: its fastest call over all plans."""
    return min(run.dense_ns for run in runs)


def fitted(
    runs: Sequence[Run], sizes: Mapping[str, LayerSizes], block: int, off: int, dense_ns: float, *, n_near: int = 0
) -> Fit:
    """Fit the staircases of every layer, and the times of whole calls to their sums.

    Parameters
    ----------
    runs : sequence of Run
        Measured plans.
    sizes : Mapping of str to LayerSizes
        By weighted layer, see `layer_sizes`.
    block : int
        Channels computed together.
    off : int
        Size that channels may need to be a multiple of.
    dense_ns : float
        Time of the dense network.
    n_near : int
        How many of the last runs are of plans near the one sought; each weighs as much as several others.
    """
    staircases = _staircases(runs, sizes, block, off)
    weights = _weights(len(runs), n_near)
    (coefficients,) = staircases.fitted(weights[None])
    (guesses,) = staircases.times_ns(coefficients[None])
    base, scale = _to_whole(guesses.sum(axis=0), runs, weights, dense_ns)
    longest = staircases.measured_ns.max(axis=1, initial=0.0)
    off_by = np.abs(guesses - staircases.measured_ns).mean(axis=1) / np.maximum(
        staircases.measured_ns.mean(axis=1), 1.0
    )
    layers = tuple(
        LayerTime(
            name=name,
            share=float(longest[index] / (longest.sum() or 1.0)),
            error=float(off_by[index]),
            terms=staircases.terms(index, scale * coefficients[index]),
        )
        for index, name in enumerate(staircases.names)
    )
    return Fit(block=block, off=off, base_ns=base, layers=layers)


def held_out(
    runs: Sequence[Run],
    sizes: Mapping[str, LayerSizes],
    block: int,
    off: int,
    dense_ns: float,
    *,
    folds: Sequence[int],
    n_near: int = 0,
) -> tuple[list[dict[str, float]], Floats]:
    """Predict each run by a fit to the runs of the other folds.

    Parameters
    ----------
    runs, sizes, block, off, dense_ns, n_near
        As in `fitted`.
    folds : sequence of int
        Fold of each run but the last `n_near`, which every fit includes.

    Returns
    -------
    (list of dict, ndarray)
        For each run that has a fold the times of its layers, as profiled, and of the whole call, in nanoseconds.
    """
    staircases = _staircases(runs, sizes, block, off)
    fold_of = np.array([*folds, *[-1] * n_near])
    distinct = sorted(set(folds))
    weights = np.array([np.where(fold_of == fold, 0.0, _weights(len(runs), n_near)) for fold in distinct])
    guesses = staircases.times_ns(staircases.fitted(weights))
    layers: list[dict[str, float]] = [{} for _ in folds]
    whole = np.zeros(len(folds))
    for fold, guessed, weight in zip(distinct, guesses, weights, strict=True):
        rest, summed = np.flatnonzero(weight).tolist(), guessed.sum(axis=0)
        base, scale = _to_whole(summed[rest], [runs[index] for index in rest], weight[rest], dense_ns)
        for index in np.flatnonzero(fold_of == fold).tolist():
            layers[index] = dict(zip(staircases.names, guessed[:, index].tolist(), strict=True))
            whole[index] = base + scale * summed[index]
    return layers, whole


def _weights(n: int, n_near: int) -> Floats:
    return np.array([1.0] * (n - n_near) + [_NEAR] * n_near)


def _staircases(runs: Sequence[Run], sizes: Mapping[str, LayerSizes], block: int, off: int) -> Staircases:
    names = tuple(dict.fromkeys(name for run in runs for name, ns in run.layers_ns.items() if ns > 0))
    # Groups that go only with a residual block are named by the plans without it alone; no size has them.
    named = [group for group in runs[0].counts if all(group in run.counts for run in runs)]
    return Staircases(
        names,
        [sizes.get(name, LayerSizes()) for name in names],
        {group: np.array([run.counts[group] for run in runs]) for group in named},
        np.array([[run.layers_ns.get(name, 0.0) for run in runs] for name in names]).reshape(len(names), len(runs)),
        block=block,
        off=off,
    )


def _to_whole(summed: Floats, runs: Sequence[Run], weights: Floats, dense_ns: float) -> tuple[float, float]:
    """Return the base and scale that map sums of profiled layers to whole times, in nanoseconds.

    The profiler adds time to every layer; the base is below 0 if that exceeds the time of a call outside its layers.
    """
    whole = np.array([run.share for run in runs]) * dense_ns
    matrix, ones = np.stack([np.ones(len(runs)), summed], axis=1) / whole[:, None], np.ones(len(runs))
    _, alone = robust_least_squares(matrix * [0, 1], ones, weights, _least_squares)
    # The noisier the times, the more the base is pulled to 0.
    doubt = float(np.median(np.abs(alone * matrix[:, 1] - 1))) / (_LIKELY_BASE * dense_ns)
    matrix, ones = np.vstack([matrix, [doubt, 0]]), np.append(ones, 0.0)
    base, scale = robust_least_squares(matrix, ones, np.append(weights, 1.0), _least_squares)
    return float(max(base, -0.5 * scale * summed.min())), float(max(scale, 1e-6))


def _least_squares(matrix: Floats, target: Floats, _: Floats | None) -> Floats:
    solved: Floats = np.linalg.lstsq(matrix, target, rcond=None)[0].astype(np.float64)
    return solved
