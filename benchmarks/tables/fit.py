"""Fit staircases of layer times over kept counts, for blocks of a given size.

A kernel computes channels in blocks, so the time of a layer grows in steps: with X and Y the blocks of its input and
output channels, ``t = a + b*X + c*Y + d*X*Y``. If the channels are not a multiple of the block, or of a smaller or
larger size, a runtime uses another kernel: with x and y the channels off the multiple, in blocks and parts of blocks,
and 0 otherwise, that takes ``e*x + f*y + g*x*Y + h*X*y`` more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from backends.modelfile import node_name
from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.nnls import non_negative_least_squares
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, BlockPlace, PlanSpace, Size
from benchmarks.tables.table import LayerTime, MeasuredPlan, Steps, Term

__all__ = ["Fit", "LayerSizes", "Run", "dense_of", "fitted", "layer_sizes"]

_NEAR = 4.0
"""Weight of a run of a plan near the one sought."""
_LIKELY_BASE = 0.03
"""Plausible base, as a share of the dense network's time."""
_FAR_OFF = 2.0
"""Multiple of the median residual beyond which a run is down-weighted."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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
    scale: float
    layers: tuple[LayerTime, ...]

    def predict_ns(self, counts: Mapping[str, int]) -> float:
        """Return the time of a whole call."""
        return self.base_ns + sum(layer.time_ns(counts, self.block) for layer in self.layers)


class LayerSizes(NamedTuple):
    """What the time of a weighted layer depends on.

    Parameters
    ----------
    axes : tuple of Size
        Sizes of its weights that depend on the counts: none, one or two.
    block : BlockPlace, optional
        Its residual block, if that can be left out.
    """

    axes: tuple[Size, ...] = ()
    block: BlockPlace | None = None


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
    names = list(dict.fromkeys(name for run in runs for name, ns in run.layers_ns.items() if ns > 0))
    weights = np.array([1.0] * (len(runs) - n_near) + [_NEAR] * n_near)
    # Groups that go only with a residual block are named by the plans without it alone; no size has them.
    named = [group for group in runs[0].counts if all(group in run.counts for run in runs)]
    counts = {group: np.array([run.counts[group] for run in runs]) for group in named}
    fitted = {
        name: _fit_layer(_times_of(name, runs), sizes.get(name, LayerSizes()), counts, block, off, weights)
        for name in names
    }
    guesses = {name: _times(terms, counts, block, len(runs)) for name, terms in fitted.items()}
    base, scale = _to_whole(np.sum(list(guesses.values()), axis=0), runs, weights, dense_ns)
    total = sum(max(run.layers_ns.get(name, 0.0) for run in runs) for name in names) or 1.0
    layers = []
    for name, terms in fitted.items():
        times = _times_of(name, runs)
        layers.append(
            LayerTime(
                name=name,
                share=float(times.max() / total),
                error=float(np.mean(np.abs(guesses[name] - times)) / max(times.mean(), 1.0)),
                terms=tuple(term.model_copy(update={"ns": scale * term.ns}) for term in terms),
            )
        )
    return Fit(block=block, off=off, base_ns=base, scale=scale, layers=tuple(layers))


def _to_whole(summed: Floats, runs: Sequence[Run], weights: Floats, dense_ns: float) -> tuple[float, float]:
    """Return the base and scale that map sums of profiled layers to whole times, in nanoseconds.

    The profiler adds time to every layer; the base is below 0 if that exceeds the time of a call outside its layers.
    """
    whole = np.array([run.share for run in runs]) * dense_ns
    matrix, ones = np.stack([np.ones(len(runs)), summed], axis=1) / whole[:, None], np.ones(len(runs))
    _, alone = _robust(matrix * [0, 1], ones, weights, _least_squares)
    # The noisier the times, the more the base is pulled to 0.
    doubt = float(np.median(np.abs(alone * matrix[:, 1] - 1))) / (_LIKELY_BASE * dense_ns)
    matrix, ones = np.vstack([matrix, [doubt, 0]]), np.append(ones, 0.0)
    base, scale = _robust(matrix, ones, np.append(weights, 1.0), _least_squares)
    return float(max(base, -0.5 * scale * summed.min())), float(max(scale, 1e-6))


def _least_squares(matrix: Floats, target: Floats, _: Floats | None) -> Floats:
    solved: Floats = np.linalg.lstsq(matrix, target, rcond=None)[0].astype(np.float64)
    return solved


def _robust(
    matrix: Floats, target: Floats, weights: Floats, solve: Callable[[Floats, Floats, Floats | None], Floats]
) -> Floats:
    """Solve twice; outliers of the first solution, as on a busy machine, count less in the second."""
    first = solve(matrix * weights[:, None], target * weights, None)
    off = np.abs(matrix @ first - target)
    weights = weights / np.maximum(1.0, off / max(_FAR_OFF * float(np.median(off)), 1e-9))
    return solve(matrix * weights[:, None], target * weights, first)


def _times_of(name: str, runs: Sequence[Run]) -> Floats:
    """Return the measured times of a layer."""
    return np.array([run.layers_ns.get(name, 0.0) for run in runs])


def _times(terms: Sequence[Term], counts: Mapping[str, Integers], block: int, n: int) -> Floats:
    """Return the sums of terms at `n` plans, whose counts are given by group."""
    return sum((term(counts, block) for term in terms), np.zeros(n))


def _fit_layer(
    times: Floats, sizes: LayerSizes, counts: Mapping[str, Integers], block: int, off: int, weights: Floats
) -> tuple[Term, ...]:
    bundles = _bundles(sizes.axes, block, off)
    if sizes.block is not None:
        there = counts[sizes.block.name] > 0
        times, weights, counts = times[there], weights[there], {name: each[there] for name, each in counts.items()}
        bundles = tuple(tuple(_in_block(term, sizes.block) for term in bundle) for bundle in bundles)
    columns = np.stack([_times(bundle, counts, block, len(times)) for bundle in bundles], axis=1)
    least = np.maximum(times, max(1.0, 0.05 * times.max()))
    coefficients = _robust(columns / least[:, None], times / least, weights, non_negative_least_squares)
    return tuple(
        term.model_copy(update={"ns": float(coefficient) * term.ns})
        for coefficient, bundle in zip(coefficients, bundles, strict=True)
        if coefficient > 0
        for term in bundle
    )


@lru_cache(maxsize=4096)
def _bundles(sizes: tuple[Size, ...], block: int, off: int) -> tuple[tuple[Term, ...], ...]:
    """Return groups of terms that share one coefficient, each term with a time of one nanosecond."""
    blocks = [_blocks(size, block) for size in sizes]
    singles = [_off(size, off) if off > 1 else () for size in sizes]
    bundles = [(Term(ns=1),), *blocks, *singles]
    if len(blocks) == 2:
        bundles += [_product(*blocks), _product(singles[0], blocks[1]), _product(blocks[0], singles[1])]
    return tuple(bundle for bundle in dict.fromkeys(bundles) if bundle)


def _in_block(term: Term, block: BlockPlace) -> Term:
    """Return a term that is 0 if the residual block is left out."""
    if any(factor.group in block.groups for factor in term.factors):
        return term
    return Term(ns=term.ns, factors=(Steps(group=block.name, width=1), *term.factors))


def _product(first: Sequence[Term], second: Sequence[Term]) -> tuple[Term, ...]:
    return tuple(Term(ns=a.ns * b.ns, factors=(*a.factors, *b.factors)) for a in first for b in second)


def _off(size: Size, off: int) -> tuple[Term, ...]:
    """Return the term for channels off the multiple, for a size that depends on one group."""
    if len(size.terms) != 1:
        return ()
    ((group, width),) = size.terms
    return (Term(ns=1, factors=(Steps(group=group, width=width, off=off),)),)


def _blocks(size: Size, block: int) -> tuple[Term, ...]:
    terms = [Term(ns=1, factors=(Steps(group=group, width=width),)) for group, width in size.terms]
    return (*([Term(ns=size.base / block)] if size.base > 0 else []), *terms)
