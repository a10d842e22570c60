"""The best plan in full channel blocks is as good as any that is as fast."""

from __future__ import annotations

from itertools import product

import pytest

from benchmarks.tables.importance import importance_of
from benchmarks.tables.plan_space import BlockPlace, GroupRange, PlanSpace
from benchmarks.tables.table import LayerTime, Steps, Term
from deploy.tables.best_aligned import best_aligned

GROUPS = (
    GroupRange(name="a", n_units=16),
    GroupRange(name="b", n_units=22, min_units=5),
    GroupRange(name="c", n_units=9),
)
SPACE = PlanSpace(model_sha256="0", graph="g", groups=GROUPS, places=())
STEPS = {"a": 4, "b": 4, "c": 4}


@pytest.fixture
def table_for(dense_table):
    """Return a table of blocks of 4 channels, measured as it predicts."""

    def make(space, **facts):
        table = dense_table(space).model_copy(update=facts)
        plan = table.plans[0].model_copy(update={"dense_ns": table.dense_ns})
        return table.model_copy(update={"plans": (plan,)})

    return make


@pytest.mark.parametrize("share", [0.4, 0.5, 0.8, 0.95])
def test_it_keeps_as_much_as_any_plan_as_fast(table_for, share):
    table, whole = table_for(SPACE), SPACE.whole
    plan = best_aligned(SPACE, table, share, STEPS)
    legal = {"a": (4, 8, 12, 16), "b": (8, 12, 16, 20, 22), "c": (4, 8, 9)}
    plans = [dict(zip(legal, counts, strict=True)) for counts in product(*legal.values())]
    assert plan in plans
    assert table.predict_ns(plan) <= share * table.dense_ns
    within = [importance_of(whole, each) for each in plans if table.predict_ns(each) <= share * table.dense_ns]
    assert importance_of(whole, plan) >= 0.998 * max(within)


def test_a_time_out_of_reach_has_no_plan(table_for):
    said, table = [], table_for(SPACE)
    assert best_aligned(SPACE, table, 0.1, STEPS, say=said.append) is None
    least = table.predict_ns({"a": 4, "b": 8, "c": 4}) / table.measured_dense_ns
    assert said == [
        "there is no best aligned plan: the MACs promised 0.100 of the dense time, and the smallest plan that fills "
        f"the blocks of 4 channels is predicted to take {least:.3f}"
    ]


def test_a_block_with_a_group_too_narrow_to_lose_units_is_worth_them(table_for):
    """Both plans are as fast as asked: leaving the block out buys nothing."""
    block = BlockPlace(name="skip", groups=("b",), nodes=(0,), replaced="y", by="x")
    narrow = (GROUPS[0], GroupRange(name="b", n_units=2))
    space = SPACE.model_copy(update={"groups": narrow, "blocks": (block,)})
    cheap = LayerTime(name="inside", share=1, error=0, terms=(Term(ns=1.0, factors=(Steps(group="skip", width=1),)),))
    wide = LayerTime(name="wide", share=1, error=0, terms=(Term(ns=100.0, factors=(Steps(group="a", width=1),)),))
    made = table_for(space.model_copy(update={"blocks": ()}), blocks={"skip": ("b",)}, layers=(cheap, wide))
    assert best_aligned(space, made, 0.8, STEPS, blocks=("skip",)) == {"a": 12, "b": 2, "skip": 1}


def test_a_residual_block_goes_only_where_it_may(table_for):
    block = BlockPlace(name="skip", groups=("b", "gate"), nodes=(0,), replaced="y", by="x")
    space = SPACE.model_copy(update={"blocks": (block,)})
    dear = LayerTime(name="inside", share=1, error=0, terms=(Term(ns=900.0, factors=(Steps(group="skip", width=1),)),))
    table = table_for(SPACE, blocks={"skip": ("b", "gate")}, layers=(dear,))
    assert best_aligned(space, table, 0.5, STEPS) is None
    assert best_aligned(space, table, 0.5, STEPS, blocks=("skip",)) == {"a": 16, "b": 0, "c": 9, "skip": 0, "gate": 0}
