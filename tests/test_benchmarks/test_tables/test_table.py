"""A table made of measured plans finds the runtime's block size and predicts plans that it has not seen."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from backends.base import CompileOptions, LayerInfo
from benchmarks.errors import NotComparableError, RecordError, SettingError
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.anchors import anchor_times, anchors_of
from benchmarks.tables.build import build_table, refine_table
from benchmarks.tables.check import check_table
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import layer_sizes
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import plan_timer


@pytest.fixture
def build(dense, space, new_world):
    def make(runtime, **options):
        return build_table(
            SubjectSpec(model=dense, backend="ort", options=CompileOptions()),
            space,
            processes=runtime.processes,
            machine=new_world(),
            **options,
        )

    return make


@pytest.fixture
def timing(dense, space, new_world):
    def start(runtime):
        return plan_timer(
            SubjectSpec(model=dense, backend="ort", options=CompileOptions()),
            space,
            purpose="a test",
            seed=0,
            say=print,
            processes=runtime.processes,
            machine=new_world(),
        )

    return start


@pytest.mark.parametrize("block", [4, 8, 16])
def test_the_block_is_found_and_new_plans_are_predicted(build, new_runtime, dense, space, block):
    runtime = new_runtime(block=block)
    table = build(runtime)
    assert table.block == block
    assert table.held_out.mape < 0.03
    assert table.held_out.rank_correlation > 0.96
    narrower, rng = Narrower(dense, space), random.Random(7)
    sized = layer_sizes(onnx.load(dense).graph, space)
    for _ in range(10):
        counts = draw(space, sized, rng, block=block, least=0.3, most=1.0)
        true = runtime.whole_ns(narrower.model(counts))
        assert math.isclose(table.predict_ns(counts), true, rel_tol=0.06)


def test_plans_that_run_in_other_kernels_are_predicted(build, new_runtime, dense, space):
    """Few of the plans are off a multiple of 4; those that are left out are predicted by the others, however narrow."""

    class OneByOne(new_runtime):
        def layer_times(self, model):
            times = super().layer_times(model)
            a, b = self.widths(model)
            if a % 4:
                times |= {"depthwise": 500 + 400 * a, "second": times["second"] + 10 * a * b}
            return times

    runtime = OneByOne(noise=0.002)
    table = build(runtime)
    assert table.held_out.mape < 0.03
    assert table.held_out.worst < 0.2
    narrower = Narrower(dense, space)
    for counts in ({"a": 1, "b": 8}, {"a": 5, "b": 32}, {"a": 7, "b": 3}, {"a": 39, "b": 64}):
        true = runtime.whole_ns(narrower.model(counts))
        assert math.isclose(table.predict_ns(counts), true, rel_tol=0.25)


def test_a_kernel_that_takes_two_blocks_at_a_time_is_found(build, new_runtime, dense, space):
    """Blocks of 8, and a slower kernel where they do not come in pairs."""

    class InPairs(new_runtime):
        def layer_times(self, model):
            times = super().layer_times(model)
            a, b = self.widths(model)
            if a % 16:
                times |= {"depthwise": 500 + 800 * a / 8, "second": times["second"] + 400 * a * b / 64}
            return times

    runtime = InPairs(noise=0.002)
    table = build(runtime)
    assert table.held_out.mape < 0.04
    narrower = Narrower(dense, space)
    for counts in ({"a": 24, "b": 48}, {"a": 56, "b": 64}, {"a": 32, "b": 64}, {"a": 8, "b": 96}):
        true = runtime.whole_ns(narrower.model(counts))
        assert math.isclose(table.predict_ns(counts), true, rel_tol=0.1)


def test_predictions_do_not_fall_when_full_blocks_are_added(build, new_runtime):
    table = build(new_runtime())
    times = [[table.predict_ns({"a": a, "b": b}) for a in range(8, 65, 8)] for b in range(8, 97, 8)]
    assert np.all(np.diff(times, axis=0) >= 0)
    assert np.all(np.diff(times, axis=1) >= 0)


def test_a_table_is_read_as_it_was_written_and_refused_for_anything_else(build, new_runtime, tmp_path):
    table = build(new_runtime(), plans=20)
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    table.require(table.key, "table.json")
    for change, message in (
        ({"threads": 2}, "threads 1, not 2"),
        ({"machine": "f" * 16}, "machine"),
        ({"backend_version": "2.0"}, "backend version '1.0', not '2.0'"),
    ):
        with pytest.raises(NotComparableError, match=message):
            table.require(table.key.model_copy(update=change), "table.json")
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RecordError, match="not a latency table"):
        LatencyTable.load(tmp_path / "other.json")


def test_a_check_measures_new_plans(build, new_runtime, new_world, dense, space):
    table = build(new_runtime())
    spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions())
    runtime = new_runtime(seed=5)
    held_out, plans = check_table(
        table, spec, space, where="table.json", plans=6, processes=runtime.processes, machine=new_world()
    )
    assert (held_out.n_plans, len(plans)) == (6, 6)
    assert held_out.mape < 0.05
    spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions(threads=2))
    with pytest.raises(NotComparableError, match="threads"):
        check_table(table, spec, space, where="table.json", plans=3, processes=runtime.processes, machine=new_world())


def test_too_few_plans_are_refused(build, new_runtime):
    with pytest.raises(SettingError, match="at least 20 plans"):
        build(new_runtime(), plans=10)


def test_times_are_summed_up_by_weighted_layer(dense, space):
    anchors = anchors_of(Narrower(dense, space).model({}).graph)
    assert anchors == {
        "first": "first",
        "relu": "first",
        "depthwise": "depthwise",
        "second": "second",
        "reshape": "second",
        "fc": "fc",
    }
    layers = [("first",), ("relu",), (), ("depthwise",), ("second", "reshape"), ("fc",), ()]
    infos = [LayerInfo(name=str(i), kind="", nodes=nodes, time_ns=10**i) for i, nodes in enumerate(layers)]
    assert anchor_times(infos, anchors) == {"first": 11, "depthwise": 1100, "second": 10_000, "fc": 1_100_000}


def test_a_machine_that_is_now_fast_and_now_slow_does_not_show(build, new_runtime):
    """Half of the turns take twice as long; plan and dense network are slowed alike."""
    table = build(new_runtime(slower=1.0))
    assert table.block == 8
    assert table.held_out.mape < 0.05


def test_a_plan_is_judged_by_calls_that_a_switch_no_longer_slows(timing, new_runtime):
    """The first calls after the other network take longer, a narrow plan by as much as a wide one."""

    class Switching(new_runtime):
        def run(self, backend, model, options, feeds, *, budget_s, **limits):
            ran = super().run(backend, model, options, feeds, budget_s=budget_s, **limits)
            fastest = min(map(min, ran.beside_ns))
            n = max(2, min(limits["most_calls"], math.ceil(1e9 * budget_s / fastest)))

            def slowed(turns, first):
                lost = [0.3 * fastest * 0.5**place for place in range(n)]
                return tuple(
                    tuple(round(ns + (index % 2 == first) * late) for ns, late in zip(turn[:n], lost, strict=True))
                    for index, turn in enumerate(turns)
                )

            return replace(ran, calls_ns=slowed(ran.calls_ns, 0), beside_ns=slowed(ran.beside_ns, 1))

    runtime, counts = Switching(noise=0.0), {"a": 16, "b": 32}
    with timing(runtime) as timer:
        share = timer.share(counts)
        narrow, whole = (runtime.whole_ns(timer.narrower.model(each)) for each in (counts, {}))
    assert share == pytest.approx(narrow / whole, rel=0.001)


@pytest.mark.parametrize("disturbed", ["plan", "dense network", "both"])
def test_a_plan_is_judged_by_its_undisturbed_turns(timing, new_runtime, disturbed):
    """In three of five sessions another program takes time, the same from a narrow network as from a wide one."""

    class Shared(new_runtime):
        def run(self, *args, **limits):
            late = 0.3 * self.whole_ns(onnx.load(limits["beside"])) if self.n_models % 5 < 3 else 0
            ran = super().run(*args, **limits)

            def slowed(turns, network):
                return tuple(
                    tuple(round(ns + late * (disturbed in (network, "both"))) for ns in turn) for turn in turns
                )

            return replace(ran, calls_ns=slowed(ran.calls_ns, "plan"), beside_ns=slowed(ran.beside_ns, "dense network"))

    runtime, counts = Shared(noise=0.002), {"a": 16, "b": 32}
    with timing(runtime) as timer:
        share = timer.share(counts)
        narrow, whole = (runtime.whole_ns(timer.narrower.model(each)) for each in (counts, {}))
    assert share == pytest.approx(narrow / whole, rel=0.01)


def test_a_table_is_refined_around_a_plan(build, timing, new_runtime):
    """A layer that takes longer than blocks say around one plan is predicted there after that plan was measured."""

    class Odd(new_runtime):
        def layer_times(self, model):
            times = super().layer_times(model)
            odd = 24 <= self.widths(model)[0] <= 40
            return {**times, "second": times["second"] * (1.3 if odd else 1.0)}

    runtime = Odd()
    table = build(runtime)
    counts = {"a": 32, "b": 64}
    with timing(runtime) as timer:
        share = timer.share(counts)
        refined = refine_table(table, timer, counts, share=share)
    true = share * refined.measured_dense_ns
    before, after = (abs(each.predict_ns(counts) / true - 1) for each in (table, refined))
    assert after < 0.02 < before
    near = [plan for plan in refined.plans if plan.near]
    assert near[0].counts == counts
    assert near[0].whole_ns == pytest.approx(true)
    assert all(abs(plan.counts["a"] - 32) <= 8 and abs(plan.counts["b"] - 64) <= 8 for plan in near)
    assert [plan.counts for plan in refined.plans if not plan.near] == [plan.counts for plan in table.plans]


def test_weights_of_plans_lie_beside_their_files(timing, new_runtime):
    bytes_apart = []

    class Watched(new_runtime):
        def run(self, backend, model, options, feeds, **limits):
            for path in filter(None, (model, limits.get("beside"))):
                InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(feeds))
            bytes_apart.append(model.with_name(f"{model.name}.data").stat().st_size)
            return super().run(backend, model, options, feeds, **limits)

    with timing(Watched()) as timer:
        assert [timer({"a": a}).counts for a in (64, 32, 64)] == [{"a": a, "b": 96} for a in (64, 32, 64)]
    whole, narrow = bytes_apart[0], bytes_apart[2]
    assert bytes_apart == [whole, whole, narrow, narrow, whole, whole]
    assert narrow < whole
