"""Cost of a configuration: a sum of products of axis sizes, each linear in the kept counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AxisSize", "BlockCost", "CostFunction"]


@dataclass(frozen=True, slots=True)
class AxisSize:
    """Size of one axis: ``constant + sum(positions * kept units of group)``.

    Parameters
    ----------
    constant : int
        Positions that are never removed.
    groups : tuple of (int, int)
        Pairs (index of the group, positions per unit), ascending.
    """

    constant: int
    groups: tuple[tuple[int, int], ...] = ()


class CostFunction:
    """Sum over terms of the product of axis sizes; evaluated in microseconds, exactly, in integers.

    Parameters
    ----------
    units : Mapping of str to int
        Number of units of every group, in the order in which `AxisSize` indexes the groups.
    terms : sequence of sequence of AxisSize
        One product per term.
    divisor : int
        The sum is divided by this (the batch of the example).
    """

    def __init__(self, units: Mapping[str, int], terms: Iterable[Sequence[AxisSize]], divisor: int = 1) -> None:
        self._index = {name: position for position, name in enumerate(units)}
        self._whole = np.array(list(units.values()), dtype=np.int64)
        self._divisor = divisor
        sizes: dict[AxisSize, int] = {AxisSize(1): 0}
        products: list[list[int]] = []
        factors: list[int] = []
        for term in terms:
            constant = 1
            product = []
            for axis in term:
                if axis.groups:
                    product.append(sizes.setdefault(axis, len(sizes)))
                else:
                    constant *= axis.constant
            products.append(product)
            factors.append(constant)
        width = max((len(product) for product in products), default=0)
        self._products = np.array([p + [0] * (width - len(p)) for p in products], dtype=np.int64).reshape(
            len(products), width
        )
        self._factors = np.array(factors, dtype=np.int64)
        self._constants = np.array([axis.constant for axis in sizes], dtype=np.int64)
        self._positions = np.zeros((len(sizes), len(units)), dtype=np.int64)
        for axis, row in sizes.items():
            for group, count in axis.groups:
                self._positions[row, group] = count

    def __call__(self, kept: Mapping[str, int] | None = None) -> int:
        """Return the cost with `kept` units of each named group; groups not named are whole.

        Raises
        ------
        KeyError
            A name is not that of a group.
        ValueError
            A count is not in 1..units of the group.
        """
        counts = self._whole
        if kept:
            counts = counts.copy()
            for name, count in kept.items():
                position = self._index[name]
                if not 1 <= count <= self._whole[position]:
                    raise ValueError(f"group {name!r} keeps 1..{self._whole[position]} units, got {count}")
                counts[position] = count
        sizes: NDArray[np.int64] = self._constants + self._positions @ counts
        return int((self._factors * sizes[self._products].prod(axis=1)).sum()) // self._divisor


class BlockCost:
    """A cost as a function of kept units and removed residual blocks.

    Parameters
    ----------
    units : Mapping of str to int
        As `CostFunction`.
    terms : sequence of (str, sequence of AxisSize)
        Each with the name of what it counts.
    blocks : Mapping of str to collection of str
        Names whose terms are removed with a block.
    divisor : int
        As `CostFunction`.
    """

    def __init__(
        self,
        units: Mapping[str, int],
        terms: Sequence[tuple[str, Sequence[AxisSize]]],
        blocks: Mapping[str, Collection[str]],
        divisor: int = 1,
    ) -> None:
        self._units, self._terms, self._blocks, self._divisor = units, terms, blocks, divisor
        self._by_blocks: dict[frozenset[str], CostFunction] = {}

    def __call__(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Return the cost with `kept` units of each named group and without `blocks`.

        Raises
        ------
        KeyError
            A name is neither that of a group nor that of a block.
        ValueError
            A count is not in 1..units of the group.
        """
        removed = frozenset(blocks)
        if removed not in self._by_blocks:
            gone = frozenset().union(*(self._blocks[name] for name in removed))
            terms = [axes for name, axes in self._terms if name not in gone]
            self._by_blocks[removed] = CostFunction(self._units, terms, self._divisor)
        return self._by_blocks[removed](kept)
