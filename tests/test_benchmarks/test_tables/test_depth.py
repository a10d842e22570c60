"""Tables of networks with residual blocks that can be left out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.errors import SettingError
from benchmarks.tables.best_fit import best_fit
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import Run, held_out
from benchmarks.tables.plan_space import BlockPlace, GroupRange, PlanSpace, Size
from benchmarks.tables.staircases import LayerSizes
from benchmarks.tables.table import HeldOut, LatencyTable, LayerTime, MeasuredPlan, Steps, TableKey, Term

STREAM, INSIDE = Size(terms=(("stream", 1),)), Size(terms=(("inside", 1),))
BLOCK = BlockPlace(name="block", groups=("inside",), nodes=(1, 2, 3), replaced="sum", by="x")
SPACE = PlanSpace(
    model_sha256="0",
    graph="g",
    groups=(GroupRange(name="stream", n_units=64), GroupRange(name="inside", n_units=64)),
    places=(),
    blocks=(BLOCK,),
)
LAYERS = {
    "stem": LayerSizes((STREAM,)),
    "first": LayerSizes((INSIDE, STREAM), BLOCK),
    "second": LayerSizes((STREAM, INSIDE), BLOCK),
}


def test_the_groups_of_a_block_go_with_it():
    assert SPACE.complete({"block": 0, "inside": 32}) == {"stream": 64, "inside": 0, "block": 0}
    assert SPACE.complete({"inside": 32}) == {"stream": 64, "inside": 32, "block": 1}
    with pytest.raises(SettingError, match="keeps 1 to 64 units, got 0"):
        SPACE.complete({"inside": 0})


def test_a_block_may_hold_groups_that_go_only_with_it(tmp_path):
    """Such as the one channel of a spatial attention."""
    gated = SPACE.model_copy(update={"blocks": (BLOCK.model_copy(update={"groups": ("gate", "inside")}),)})
    gated.save(tmp_path / "space.json")
    assert PlanSpace.load(tmp_path / "space.json") == gated
    assert gated.complete({"block": 0}) == {"stream": 64, "inside": 0, "gate": 0, "block": 0}
    steps = Term(ns=1.0, factors=(Steps(group="stream", width=1),))
    plan = MeasuredPlan(counts=gated.complete({"block": 0}), whole_ns=1.0, dense_ns=2.0, layers_ns={}, predicted_ns=1.0)
    table = LatencyTable(
        key=TableKey(
            model_sha256="0", graph="g", backend="ort", backend_version="1", precision="fp32", threads=1, device="cpu",
            batch=1, machine="m",
        ),
        started_utc="", groups=gated.groups, blocks={"block": ("gate", "inside")}, block=8, base_ns=1.0,
        layers=(LayerTime(name="stem", share=1.0, error=0.0, terms=(steps,)),),
        held_out=HeldOut(n_plans=1, mape=0.0, worst=0.0, rank_correlation=1.0),
        plans=(plan,), seconds=1.0,
    )  # fmt: skip
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json").predict_ns({"block": 0}) == 9.0


def test_plans_are_drawn_without_blocks():
    rng = random.Random(0)
    drawn = [draw(SPACE, LAYERS, rng, block=8, least=0.5, most=1.0, absent=absent) for absent in [0.5] * 20]
    assert {plan.get("block", 1) for plan in drawn} == {0, 1}


def layer_times(counts):
    stream, inside = -(-counts["stream"] // 8), -(-counts["inside"] // 8)
    times = {"stem": 500.0 + 100 * stream}
    if counts["block"]:
        times |= {"first": 400.0 + 50 * stream + 20 * stream * inside, "second": 300.0 + 30 * stream * inside}
    return times


def test_a_plan_without_the_block_is_predicted():
    rng = random.Random(1)
    plans = [SPACE.complete({})]
    plans += [SPACE.complete(draw(SPACE, LAYERS, rng, block=8, least=0.3, most=1.0, absent=0.4)) for _ in range(29)]
    dense = sum(layer_times(plans[0]).values())
    runs = [
        Run(counts=plan, layers_ns=layer_times(plan), share=sum(layer_times(plan).values()) / dense, dense_ns=dense)
        for plan in plans
    ]
    fit, held_out, _ = best_fit(runs, LAYERS)
    assert held_out.mape < 0.01
    for wanted in ({"block": 0, "stream": 24}, {"stream": 24, "inside": 40}):
        counts = SPACE.complete(wanted)
        assert fit.predict_ns(counts) == pytest.approx(sum(layer_times(counts).values()), rel=0.02)


def test_a_block_that_is_in_no_fitted_plan_is_predicted_without_time():
    """Where the plans with it are all held out together."""
    rng = random.Random(1)
    plans = [
        SPACE.complete({"block": index % 2, **draw(SPACE, LAYERS, rng, block=8, least=0.3, most=1.0)})
        for index in range(24)
    ]
    runs = [Run(counts=plan, layers_ns=layer_times(plan), share=1.0, dense_ns=1e4) for plan in plans]
    layers, _ = held_out(runs, LAYERS, 8, 8, 1e4, folds=[plan["block"] for plan in plans])
    for plan, found in zip(plans, layers, strict=True):
        assert found["first"] == found["second"] == 0
        assert found["stem"] == pytest.approx(layer_times(plan)["stem"], rel=1e-3)


def test_layers_that_take_no_time_make_no_table():
    """A clock of a microsecond says so of a network that is shorter."""
    plans = [SPACE.complete({"stream": count}) for count in range(20, 40)]
    runs = [Run(counts=plan, layers_ns={"stem": 100.0}, share=1.0, dense_ns=100.0) for plan in plans]
    runs[3] = replace(runs[3], layers_ns={"stem": 0.0})
    with pytest.raises(SettingError, match="too short for the profiler's clock"):
        best_fit(runs, LAYERS)
