"""Draw the random plans that a table is fitted to."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import gcd

from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.staircases import LayerSizes

__all__ = ["ABSENT", "aligned", "block_units", "draw", "draw_near"]

ABSENT = 0.25
"""Share of the removable residual blocks that every other plan leaves out."""

_NARROWEST = 0.1


def block_units(space: PlanSpace, layers: Mapping[str, LayerSizes], block: int) -> dict[str, int]:
    """Return how many units of each group make whole channel blocks, in the layer where a unit has the fewest channels.

    An attention head is a unit of as many channels as its queries have, whatever else counts heads.
    """
    widths: dict[str, int] = {}
    for size in (size for layer in layers.values() for size in layer.axes):
        for group, width in size.terms:
            widths[group] = min(width, widths.get(group, width))
    return {group.name: block // gcd(block, widths.get(group.name, 1)) for group in space.groups}


def aligned(
    space: PlanSpace, layers: Mapping[str, LayerSizes], shares: Mapping[str, float], block: int
) -> dict[str, int]:
    """Return the counts nearest to shares of the full sizes, with channels a multiple of a block, or all units."""
    counts = {}
    for group, step in zip(space.groups, block_units(space, layers, block).values(), strict=True):
        count = max(round(shares[group.name] * group.n_units / step), 1) * step
        counts[group.name] = min(max(count, -(-group.min_units // step) * step), group.n_units)
    return counts


def draw(
    space: PlanSpace,
    layers: Mapping[str, LayerSizes],
    rng: random.Random,
    *,
    block: int,
    least: float,
    most: float,
    spread: float = 0.3,
    absent: float = 0.0,
) -> dict[str, int]:
    """Draw a plan: one width for the network, each group somewhere around it.

    Parameters
    ----------
    space : PlanSpace
        The groups.
    layers : Mapping of str to LayerSizes
        By weighted layer, see `benchmarks.tables.fit.layer_sizes`.
    rng : Random
        Random generator, advanced in place.
    block : int
        Channels that counts are a multiple of.
    least, most : float
        Range of the network's width, as a share.
    spread : float
        How far a group may be from that width.
    absent : float
        Probability that each removable residual block is left out.
    """
    width = rng.uniform(least, most)
    shares = {group.name: min(1.0, max(_NARROWEST, width + rng.uniform(-spread, spread))) for group in space.groups}
    gone = {each.name: 0 for each in space.blocks if rng.random() < absent}
    return aligned(space, layers, shares, block) | gone


def draw_near(
    space: PlanSpace,
    layers: Mapping[str, LayerSizes],
    rng: random.Random,
    counts: Mapping[str, int],
    *,
    block: int,
) -> dict[str, int]:
    """Draw a plan around another one: each group keeps its count or moves one channel block up or down.

    Parameters
    ----------
    space : PlanSpace
        The groups.
    layers : Mapping of str to LayerSizes
        By weighted layer, see `benchmarks.tables.fit.layer_sizes`.
    rng : Random
        Random generator, advanced in place.
    counts : Mapping of str to int
        The plan.
    block : int
        Channels per block.
    """
    steps = block_units(space, layers, block)
    sizes = {group.name: group.n_units for group in space.groups}
    full = space.complete(counts)
    shares = {name: (full[name] + rng.choice((-1, 0, 0, 1)) * steps[name]) / sizes[name] for name in sizes}
    return aligned(space, layers, shares, block) | {each.name: full[each.name] for each in space.blocks}
