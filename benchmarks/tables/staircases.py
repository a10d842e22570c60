"""Staircases of layer times over kept counts, fitted for many layers at once.

A kernel computes channels in blocks, so the time of a layer grows in steps: with X and Y the blocks of its input and
output channels, ``t = a + b*X + c*Y + d*X*Y``. If the channels are not a multiple of the block, or of a smaller or
larger size, a runtime uses another kernel: with x and y the channels off the multiple, in blocks and parts of blocks,
and 0 otherwise, that takes ``e*x + f*y + g*x*Y + h*X*y`` more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.tables.least_squares import non_negative_least_squares, robust_least_squares
from benchmarks.tables.plan_space import BlockPlace, Size
from benchmarks.tables.table import Steps, Term

__all__ = ["LayerSizes", "Staircases"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


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


class Staircases:
    """Terms of the layers of measured plans, and the times of these layers.

    Parameters
    ----------
    names : sequence of str
        The layers.
    sizes : sequence of LayerSizes
        What their times depend on.
    counts : Mapping of str to ndarray of shape (plans,)
        Kept units, by group.
    measured_ns : ndarray of shape (layers, plans), dtype float64
        Nanoseconds.
    block : int
        Channels computed together.
    off : int
        Size that channels may need to be a multiple of.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[LayerSizes],
        counts: Mapping[str, Integers],
        measured_ns: Floats,
        *,
        block: int,
        off: int,
    ) -> None:
        self.names = names
        self.measured_ns = measured_ns
        self._bundles = [_bundles(each, block, off) for each in sizes]
        n_plans, most = measured_ns.shape[1], max(map(len, self._bundles), default=0)
        self._columns = np.zeros((len(names), n_plans, most))  # those beyond a layer's own terms stay 0
        for columns, bundles in zip(self._columns, self._bundles, strict=True):
            for index, bundle in enumerate(bundles):
                columns[:, index] = sum(term(counts, block) for term in bundle)
        there = [np.ones(n_plans, bool) if each.block is None else counts[each.block.name] > 0 for each in sizes]
        self._there = np.array(there).reshape(len(names), n_plans)

    def fitted(self, weights: Floats) -> Floats:
        """Return the coefficients of the terms; outliers, as on a busy machine, count less.

        Parameters
        ----------
        weights : ndarray of shape (fits, plans), dtype float64
            Weight of each plan in each fit; 0 leaves it out.

        Returns
        -------
        ndarray of shape (fits, layers, terms), dtype float64
        """
        weights = weights[:, None] * self._there
        longest = np.where(weights > 0, self.measured_ns, 0.0).max(axis=-1, initial=0.0)
        least = np.maximum(self.measured_ns, np.maximum(1.0, 0.05 * longest)[..., None])
        matrix = self._columns / least[..., None]
        n_fits, n_layers, n_plans, n_terms = matrix.shape
        coefficients = robust_least_squares(
            matrix.reshape(n_fits * n_layers, n_plans, n_terms),
            (self.measured_ns / least).reshape(n_fits * n_layers, n_plans),
            weights.reshape(n_fits * n_layers, n_plans),
            non_negative_least_squares,
        )
        return coefficients.reshape(n_fits, n_layers, n_terms)

    def times_ns(self, coefficients: Floats) -> Floats:
        """Return the times of all layers in all plans.

        Parameters
        ----------
        coefficients : ndarray of shape (fits, layers, terms), dtype float64
            As returned by `fitted`.

        Returns
        -------
        ndarray of shape (fits, layers, plans), dtype float64
        """
        # Not `@`, which may round equal rows differently: equal plans have equal times.
        times: Floats = (self._columns * coefficients[:, :, None]).sum(axis=-1)
        return times

    def terms(self, layer: int, coefficients: Floats) -> tuple[Term, ...]:
        """Return the terms of the layer at this place that take time.

        Parameters
        ----------
        layer : int
            Its index in `names`.
        coefficients : ndarray of shape (terms,), dtype float64
            Its coefficients.
        """
        bundles = self._bundles[layer]
        return tuple(
            term.model_copy(update={"ns": float(coefficient) * term.ns})
            for coefficient, bundle in zip(coefficients, bundles, strict=False)  # no terms belong to the last ones
            if coefficient > 0
            for term in bundle
        )


def _bundles(sizes: LayerSizes, block: int, off: int) -> list[tuple[Term, ...]]:
    """Return groups of terms that share one coefficient, each term with a time of one nanosecond."""
    blocks = [_blocks(size, block) for size in sizes.axes]
    singles = [_off(size, off) if off > 1 else () for size in sizes.axes]
    bundles = [(Term(ns=1),), *blocks, *singles]
    if len(blocks) == 2:
        bundles += [_product(*blocks), _product(singles[0], blocks[1]), _product(blocks[0], singles[1])]
    distinct = [bundle for bundle in dict.fromkeys(bundles) if bundle]
    if (gone := sizes.block) is None:
        return distinct
    return [tuple(_in_block(term, gone) for term in bundle) for bundle in distinct]


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
