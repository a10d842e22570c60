"""`LatencyModel`: the latency of one call as a function of kept counts, from a latency table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import gcd

__all__ = ["BlockCount", "LatencyModel", "LatencyTerm"]


@dataclass(frozen=True, slots=True)
class BlockCount:
    """Number of channel blocks a group fills in a layer, or of channels run by a slower kernel off the multiple.

    Parameters
    ----------
    group : str
        Name of the group.
    width : int
        Channels of one unit.
    off : int
        If not 0: the number is 0 if the channels are a multiple of it, otherwise partial blocks count as fractions.
    """

    group: str
    width: int
    off: int = 0

    def __call__(self, count: int, block: int) -> float:
        """Return the number of blocks if `count` units are kept."""
        channels = self.width * count
        if self.off:
            return channels / block if channels % self.off else 0.0
        return -(-channels // block)


@dataclass(frozen=True, slots=True)
class LatencyTerm:
    """Nanoseconds per block, or per product of two block counts.

    Parameters
    ----------
    ns : float
        Not negative.
    factors : tuple of BlockCount
        One or two.
    """

    ns: float
    factors: tuple[BlockCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """Predicts the time of one call from kept counts.

    Parameters
    ----------
    backend : str
        What was measured, in words.
    graph : str
        Fingerprint of the network whose groups are named.
    block : int
        Channels that the runtime computes together: other counts cost as much as the next multiple.
    base_ns : float
        Constant part, in nanoseconds.
    terms : tuple of LatencyTerm
        Terms added to `base_ns`.
    sizes : Mapping of str to int
        Units of each group; 1 for each block.
    blocks : Mapping of str to tuple of str
        Residual blocks whose removal the table covers, and the groups that go with each. A count of 0 leaves a block
        out.
    """

    backend: str
    graph: str
    block: int
    base_ns: float
    terms: tuple[LatencyTerm, ...]
    sizes: Mapping[str, int]
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def without(self, blocks: Collection[str]) -> dict[str, int]:
        """Return the counts, all 0, of `blocks` and of the groups that go with them."""
        return {name: 0 for block in blocks for name in (block, *self.blocks[block])}

    def neighbours(self) -> dict[str, frozenset[str]]:
        """Return for each group the other groups whose counts change the cost of its units."""
        shared: dict[str, set[str]] = {}
        for term in self.terms:
            names = {factor.group for factor in term.factors}
            for name in names:
                shared.setdefault(name, set()).update(names)
        return {name: frozenset(names - {name}) for name, names in shared.items()}

    def block_units(self) -> dict[str, int]:
        """Return for each group how many units make whole channel blocks, where a unit has the fewest channels."""
        widths: dict[str, int] = {}
        for factor in (factor for term in self.terms for factor in term.factors):
            widths[factor.group] = min(factor.width, widths.get(factor.group, factor.width))
        return {name: self.block // gcd(self.block, widths.get(name, 1)) for name in self.sizes}

    def time_ns(self, counts: Mapping[str, int] | None = None) -> float:
        """Return the latency of one call in nanoseconds; groups not named are whole."""
        full = {**self.sizes, **(counts or {})}
        full |= self.without([block for block in self.blocks if not full[block]])
        total = self.base_ns
        for term in self.terms:
            value = term.ns
            for factor in term.factors:
                value *= factor(full[factor.group], self.block)
            total += value
        return total
