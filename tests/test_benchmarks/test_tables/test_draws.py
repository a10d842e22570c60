"""Plans are drawn in whole channel blocks of the weighted layers, whatever else counts the units of a group."""

from __future__ import annotations

import random

import pytest

from benchmarks.tables.draws import aligned, block_units, draw, draw_near
from benchmarks.tables.plan_space import AxisPlace, GroupRange, PlanSpace, Size, ValuePlace
from benchmarks.tables.staircases import LayerSizes

HEADS, HIDDEN = Size(terms=(("heads", 64),)), Size(terms=(("hidden", 1),))
SPACE = PlanSpace(
    model_sha256="0",
    graph="g",
    groups=(GroupRange(name="heads", n_units=12), GroupRange(name="hidden", n_units=96)),
    places=(
        AxisPlace(node=0, input=1, axis=0, size=Size(terms=(("heads", 192),))),
        ValuePlace(node=1, input=1, index=2, size=Size(terms=(("heads", 1),))),
        AxisPlace(node=2, input=1, axis=1, size=HEADS),
        AxisPlace(node=3, input=1, axis=0, size=HIDDEN),
    ),
)
LAYERS = {
    "": LayerSizes(),
    "qkv": LayerSizes((Size(terms=(("heads", 192),)),)),
    "projection": LayerSizes((HEADS,)),
    "up": LayerSizes((HIDDEN,)),
}


@pytest.mark.parametrize(("block", "units"), [(1, (1, 1)), (16, (1, 16)), (128, (2, 128))])
def test_a_head_is_as_many_channels_as_its_queries(block, units):
    """A reshape counts heads as well: one number each."""
    assert tuple(block_units(SPACE, LAYERS, block).values()) == units


def test_half_the_heads_are_half_of_them():
    assert aligned(SPACE, LAYERS, {"heads": 0.5, "hidden": 0.6}, 16) == {"heads": 6, "hidden": 64}


def test_plans_of_whole_blocks_vary_in_their_heads():
    rng = random.Random(0)
    drawn = [draw(SPACE, LAYERS, rng, block=16, least=0.3, most=1.0) for _ in range(40)]
    drawn += [draw_near(SPACE, LAYERS, rng, {"heads": 6, "hidden": 64}, block=16) for _ in range(10)]
    assert len({plan["heads"] for plan in drawn[:40]}) > 5
    assert {plan["heads"] for plan in drawn[40:]} == {5, 6, 7}
    assert all(plan["hidden"] % 16 == 0 for plan in drawn)
