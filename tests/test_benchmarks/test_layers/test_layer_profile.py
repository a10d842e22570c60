"""Each MAC is counted once, bytes are those that cross a layer's border, and models are paired by what they compute."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from backends.base import LayerInfo
from benchmarks.errors import NotComparableError, SettingError, WorkerError
from benchmarks.layers.comparison import LayerReport, compare_layers, other_widths
from benchmarks.layers.layer_profile import LayerProfile, join
from benchmarks.layers.onnx_nodes import GraphNode, ModelGraph, model_graph
from benchmarks.layers.process import Ran
from benchmarks.layers.profiler import profile_layers
from benchmarks.layers.roofline import Roofline
from benchmarks.records.measurement import Cost, NodeCost, Subject
from benchmarks.subject.cost import cost
from benchmarks.subject.subject import SubjectSpec

ROOFLINE = Roofline(
    backend="ort",
    precision="fp32",
    threads=1,
    device="cpu",
    peak_flops=100e9,
    peak_bytes_per_s=10e9,
    gemm_size=512,
    copied_bytes=1 << 20,
)


def counted(macs):
    nodes = [NodeCost(name=name, op="Conv", macs=n, parameters=0, activation_bytes=0) for name, n in macs]
    total = sum(node.macs for node in nodes)
    return Cost(macs=total, parameters=0, weight_bytes=0, activation_bytes=0, file_bytes=0, nodes=nodes)


def chain(names, size=1000):
    """Make a graph of nodes that follow each other; tensor ``t0`` is the input."""
    nodes = [
        GraphNode(name=name, op="Conv", reads=(f"t{i}",), writes=(f"t{i + 1}",), channels=(16, 16))
        for i, name in enumerate(names)
    ]
    return ModelGraph(nodes, {f"t{i}": size for i in range(len(names) + 1)}, [f"t{len(names)}"])


def layer(name, *nodes, time_ns=1000, kind="Conv"):
    return LayerInfo(name=name, kind=kind, nodes=nodes, time_ns=time_ns)


def joined(layers, macs, *, batch=1, latency_ns=10_000.0, roofline=ROOFLINE, graph=None):
    names = [name for name, _ in macs]
    return join(layers, counted(macs), graph or chain(names), batch=batch, latency_ns=latency_ns, roofline=roofline)


NODES = [f"n{i}" for i in range(8)]


@given(
    macs=st.lists(st.integers(0, 10**9), min_size=8, max_size=8),
    layers=st.lists(st.tuples(st.lists(st.sampled_from(NODES), max_size=5), st.none() | st.integers(0, 10**6))),
    repeated=st.integers(1, 8),
    batch=st.integers(1, 8),
)
def test_every_mac_is_in_exactly_one_row_and_all_time_is_told(macs, layers, repeated, batch):
    # Some nodes share a name: a file may do that.
    named = [
        (NODES[i % repeated] if i >= repeated else name, n) for i, (name, n) in enumerate(zip(NODES, macs, strict=True))
    ]
    infos = [layer(f"l{i}", *dict.fromkeys(nodes), time_ns=ns) for i, (nodes, ns) in enumerate(layers)]
    rows = joined(infos, named, batch=batch, latency_ns=123_456.0)
    assert sum(row.macs for row in rows) == batch * sum(macs)
    assert sum(row.time_ns or 0 for row in rows) == 123_456
    held = [name for row in rows for name in row.nodes]
    assert {name for name, _ in named} <= set(held)


def test_kinds_of_rows():
    layers = [
        layer("reorder", kind="ReorderInput", time_ns=300),
        layer("cast", kind="Cast", time_ns=200),
        layer("fused", "a", "b", time_ns=4000),
        layer("prepared", kind="Const", time_ns=None),
    ]
    rows = joined(layers, [("a", 100), ("b", 0), ("folded", 7)], latency_ns=5000.0)
    assert [(row.name, row.kind, row.macs, row.time_ns) for row in rows] == [
        ("reorder", "layout conversion", 0, 300),
        ("cast", "inserted", 0, 200),
        ("fused", "layer", 100, 4000),
        ("folded", "in no layer", 7, None),
        ("gaps", "gaps", 0, 500),
    ]
    assert math.isclose(sum(row.share or 0 for row in rows), 1)


def test_gaps_are_negative_where_profiling_slowed_the_layers_down():
    rows = joined([layer("l", "a", time_ns=9000)], [("a", 1)], latency_ns=5000.0)
    assert (rows[-1].kind, rows[-1].time_ns, rows[-1].share) == ("gaps", -4000, -0.8)


def test_a_split_node_counts_in_its_longest_layer():
    rows = joined([layer("short", "a", time_ns=10), layer("long", "a", time_ns=20)], [("a", 5)])
    assert [(row.name, row.macs) for row in rows[:2]] == [("short", 0), ("long", 5)]
    assert rows[0].moved_bytes is None


def test_roofline_of_a_row():
    # 1e6 MACs are 2e6 FLOPs: 20 us at 100 GFLOP/s. 2000 bytes: 0.2 us at 10 GB/s.
    row = joined([layer("l", "a", time_ns=40_000)], [("a", 10**6)])[0]
    assert row.bound == "compute"
    assert math.isclose(row.roofline_share, 0.5)
    assert math.isclose(row.flops_per_s, 50e9)
    assert row.moved_bytes == 2000
    assert math.isclose(row.bytes_per_s, 5e7)
    # Without MACs the bytes decide: 0.2 us of 1 us.
    row = joined([layer("l", "a", time_ns=1000)], [("a", 0)])[0]
    assert (row.bound, row.flops_per_s) == ("memory", None)
    assert math.isclose(row.roofline_share, 0.2)


def test_a_time_below_the_clock_gives_no_rate():
    row = joined([layer("l", "a", time_ns=0)], [("a", 10**6)])[0]
    assert (row.time_ns, row.flops_per_s, row.roofline_share, row.bound) == (0, None, None, None)


def test_without_a_roofline_no_share_is_told():
    row = joined([layer("l", "a")], [("a", 10**6)], roofline=None)[0]
    assert (row.roofline_share, row.bound) == (None, None)
    assert row.flops_per_s is not None


def graph_of(*nodes, sizes, outputs=("y",)):
    return ModelGraph([GraphNode(name=n, op=op, reads=r, writes=w) for n, op, r, w in nodes], sizes, outputs)


def test_bytes_cross_the_border_of_a_fused_layer_once():
    graph = graph_of(
        ("conv", "Conv", ("x", "w", "b"), ("c",)),
        ("add", "Add", ("c", "x"), ("a",)),
        ("relu", "Relu", ("a",), ("y",)),
        sizes={"x": 100, "w": 30, "b": 4, "c": 200, "a": 200, "y": 200},
    )
    assert graph.moved_bytes({0, 1, 2}) == 100 + 30 + 4 + 200
    assert graph.moved_bytes({0}) == 100 + 30 + 4 + 200
    assert graph.moved_bytes({1}) == 200 + 100 + 200
    # What another layer also needs has to be written.
    assert graph.moved_bytes({1, 2}) == 200 + 100 + 200
    assert graph.moved_bytes({0, 1}) == 100 + 30 + 4 + 200


def test_an_inner_tensor_that_leaves_the_model_is_written():
    graph = graph_of(
        ("conv", "Conv", ("x",), ("c",)),
        ("relu", "Relu", ("c",), ("y",)),
        sizes={"x": 1, "c": 10, "y": 100},
        outputs=("y", "c"),
    )
    assert graph.moved_bytes({0, 1}) == 111


def test_what_only_changes_the_shape_moves_nothing_and_a_slice_reads_what_it_writes():
    graph = graph_of(
        ("view", "Reshape", ("x", "shape"), ("v",)),
        ("slice", "Slice", ("v", "start"), ("y",)),
        sizes={"x": 1000, "shape": 16, "v": 1000, "start": 8, "y": 50},
    )
    assert graph.moved_bytes({0}) == 0
    assert graph.moved_bytes({1}) == 50 + 50 + 8


def test_bytes_are_not_guessed():
    graph = graph_of(("where", "NonZero", ("x",), ("y",)), sizes={"x": 1000})
    assert graph.moved_bytes({0}) is None


def test_graph_of_a_file(conv_model):
    graph = model_graph(conv_model, {"x": (2, 3, 8, 8)})
    conv, relu, pool, _, fc = graph.nodes
    assert (conv.name, conv.channels, fc.channels, relu.channels) == ("conv", (3, 4), (4, 5), None)
    image, weights, feature = 4 * 2 * 3 * 64, 4 * 4 * 27 + 16, 4 * 2 * 4 * 64
    assert graph.moved_bytes({0, 1}) == image + weights + feature
    assert pool.reads == relu.writes


def test_channels_of_grouped_and_transposed_layers(tmp_path, save_model, weight):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="grouped", group=2),
        helper.make_node("ConvTranspose", ["a", "v"], ["b"], name="up", group=2),
        helper.make_node("Transpose", ["b"], ["c"], name="t", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["c", "m"], ["y"], name="mm"),
    ]
    weights = [weight("w", 6, 4, 1, 1), weight("v", 6, 5, 1, 1), weight("m", 10, 3)]
    ends = [("x", TensorProto.FLOAT, [1, 8, 2, 2])], [("y", TensorProto.FLOAT, [1, 2, 2, 3])]
    graph = model_graph(save_model(tmp_path / "m.onnx", nodes, *ends, weights), {"x": (1, 8, 2, 2)})
    assert [node.channels for node in graph.nodes] == [(8, 6), (6, 10), None, (10, 3)]


def profile(rows_of, macs, *, graph=None, latency_ns=50_000.0, **subject):
    facts = {"label": "m", "model": "m.onnx", "sha256": "", "backend": "ort"} | subject
    return LayerProfile(
        subject=Subject(**facts),
        executed_precision="fp32",
        latency_ns=latency_ns,
        n_calls=1,
        profiled_ns=latency_ns,
        n_profiled=1,
        roofline=ROOFLINE,
        rows=joined(rows_of, macs, latency_ns=latency_ns, graph=graph),
    )


def wide(name, inputs, outputs, size=1000, groups=1):
    nodes = [GraphNode(name=name, op="Conv", reads=("x",), writes=("y",), channels=(inputs, outputs), groups=groups)]
    return ModelGraph(nodes, {"x": size, "y": size}, ["y"])


def only_pair(before, after, name="conv"):
    found = {pair.name: pair for pair in compare_layers(after, before).pairs}
    return found[name]


def test_a_pair_that_kept_its_promise_needs_no_reason():
    before = profile([layer("l", "conv", time_ns=40_000)], [("conv", 10**6)])
    after = profile([layer("m", "conv", time_ns=20_000)], [("conv", 5 * 10**5)])
    pair = only_pair(before, after)
    assert (pair.macs_ratio, pair.time_ratio, pair.reasons, pair.matched) == (2, 2, (), True)


@pytest.mark.parametrize(
    ("block", "depthwise", "words"),
    [
        (16, False, ["60 output channels are not a multiple of 16 (baseline: 64)"]),
        (16, True, ["60 channels are not a multiple of 16 (baseline: 64)"]),
        (4, False, []),
        (1, False, []),
        (None, False, []),
    ],
)
def test_counts_off_the_block_that_was_found_are_the_reason(block, depthwise, words):
    before = profile([layer("l", "conv", time_ns=20_000)], [("conv", 10**6)], graph=wide("conv", 64, 64))
    graph = wide("conv", 60 if depthwise else 64, 60, groups=60 if depthwise else 1)
    after = profile([layer("l", "conv", time_ns=25_000)], [("conv", 9 * 10**5)], graph=graph)
    found = compare_layers(after, before, block=block, block_from="measured")
    reasons = next(pair.reasons for pair in found.pairs if pair.name == "conv")
    assert [reason for reason in reasons if "channels" in reason] == words
    assert "72 % of the roofline, before 100 %" in reasons
    assert (found.block, found.block_from) == (block, "measured" if block else "unknown")
    assert other_widths(after, before)
    assert not other_widths(after, after)


def test_channels_are_no_reason_for_a_gain_nor_where_they_stay():
    before = profile([layer("l", "conv", time_ns=80_000)], [("conv", 10**6)], graph=wide("conv", 64, 64))
    after = profile([layer("l", "conv", time_ns=20_000)], [("conv", 9 * 10**5)], graph=wide("conv", 64, 63))
    odd = profile([layer("l", "conv", time_ns=20_000)], [("conv", 10**6)], graph=wide("conv", 64, 63))
    for pair in (compare_layers(after, before, block=16), compare_layers(odd, odd, block=16)):
        assert not any("channels" in reason for one in pair.pairs for reason in one.reasons)


def test_memory_and_kernels_are_reasons():
    big = wide("conv", 8, 8, size=100_000)
    before = profile([layer("l", "conv", time_ns=30_000)], [("conv", 1.5e6)], graph=big)
    after = profile([layer("l", "conv", time_ns=25_000, kind="FusedConv")], [("conv", 10**5)], graph=big)
    reasons = only_pair(before, after).reasons
    assert "memory bound: its bytes, not its MACs, set its time" in reasons
    assert "another kernel: FusedConv instead of Conv" in reasons


def test_other_fusions_are_compared_as_one():
    before = profile([layer("l", "conv", "add", "relu", time_ns=20_000)], [("conv", 10**6), ("add", 0), ("relu", 0)])
    apart = [layer("l", "conv", time_ns=10_000), layer("m", "add", "relu", time_ns=10_000)]
    after = profile(apart, [("conv", 5 * 10**5), ("add", 0), ("relu", 0)])
    pair = only_pair(before, after)
    assert (pair.baseline_layers, pair.candidate_layers) == (("l",), ("l", "m"))
    assert (pair.macs_ratio, pair.time_ratio) == (2, 1)
    assert "fused into 2 layers instead of 1" in pair.reasons


def test_conversions_are_summed_and_counted():
    before = profile([layer("l", "conv"), layer("r", kind="Reorder", time_ns=10)], [("conv", 1)])
    conversions = [layer(f"r{i}", kind="Reorder", time_ns=10) for i in range(3)]
    pair = only_pair(before, profile([layer("l", "conv"), *conversions], [("conv", 1)]), "layout conversion")
    assert (pair.baseline_ns, pair.candidate_ns, pair.reasons) == (10, 30, ("3 of them instead of 1",))


@given(
    st.lists(st.lists(st.sampled_from(NODES), unique=True, max_size=4), max_size=6),
    st.lists(st.lists(st.sampled_from(NODES), unique=True, max_size=4), max_size=6),
)
def test_each_row_is_in_exactly_one_pair(before, after):
    macs = [(name, 10**6 + i) for i, name in enumerate(NODES)]
    sides = [profile([layer(f"l{i}", *nodes) for i, nodes in enumerate(one)], macs) for one in (before, after)]
    pairs = compare_layers(sides[1], sides[0]).pairs
    for side, name in zip(sides, ("baseline", "candidate"), strict=True):
        assert sum(getattr(pair, f"{name}_macs") for pair in pairs) == side.macs
        assert sum(getattr(pair, f"{name}_ns") or 0 for pair in pairs) == sum(row.time_ns or 0 for row in side.rows)
        held = [each for pair in pairs for each in getattr(pair, f"{name}_layers")]
        assert sorted(held) == sorted(row.name for row in side.rows)


def test_layers_of_one_model_only_are_told():
    before = profile([layer("l", "conv"), layer("m", "gone")], [("conv", 1), ("gone", 5)])
    pairs = compare_layers(profile([layer("l", "conv")], [("conv", 1)]), before).pairs
    assert [pair.name for pair in pairs if not pair.matched] == ["gone"]


def test_unlike_settings_are_not_compared():
    one = profile([layer("l", "conv")], [("conv", 1)])
    with pytest.raises(NotComparableError, match="threads 1 and threads 2"):
        compare_layers(profile([layer("l", "conv")], [("conv", 1)], threads=2), one)


def test_a_report_survives_its_json_form():
    one = profile([layer("l", "conv"), layer("r", kind="Reorder")], [("conv", 10**6)])
    report = LayerReport(profiles=(one,), comparisons=(compare_layers(one, one),))
    assert LayerReport.model_validate_json(report.model_dump_json()) == report
    assert '"schema_version":1' in report.model_dump_json()


def simulated(times, calls_ns=(100_000,) * 5):
    """Run nothing: session ``i`` takes ``times[i]`` for the convolution; profiled calls take twice as long."""

    def run(backend, model, options, feeds, *, sessions, most_calls, budget_s, total_s):
        names = ("conv", "relu")
        layers = tuple((layer("l", *names, time_ns=time_ns), layer("r", kind="Reorder")) for time_ns in times)
        calls = (tuple(2 * ns for ns in calls_ns),) * len(times) if options.profile else (calls_ns,)
        return Ran(calls_ns=calls, layers=layers, executed_precision="fp32", backend_version="1")

    return lambda backend, *, threads: nullcontext(run)


def test_a_disturbed_session_does_not_show(conv_model):
    found = profile_layers(
        SubjectSpec(model=conv_model, batch=3),
        processes=simulated([50_000, 900_000, 52_000, 51_000, 700_000], (100_000, 90_000, 5_000_000)),
        measure_roofline=lambda *_: ROOFLINE,
    )
    row = found.rows[0]
    assert (row.nodes, row.time_ns, row.ops) == (("conv", "relu"), 51_000, ("Conv", "Relu"))
    assert (found.latency_ns, found.undisturbed_ns) == (100_000, 90_000)
    assert found.macs == 3 * cost(conv_model).macs
    assert found.subject.batch == 3
    assert [row.name for row in found.rows if row.kind == "in no layer"] == ["pool", "flatten", "fc"]
    assert any("profiling made the calls 100 % longer" in note for note in found.notes)


def test_without_a_roofline_the_layers_are_still_told(conv_model):
    def fails(*_):
        raise WorkerError("no matrix product here")

    found = profile_layers(SubjectSpec(model=conv_model), processes=simulated([50_000]), measure_roofline=fails)
    assert found.roofline is None
    assert "the roofline could not be measured: no matrix product here" in found.notes
    assert found.rows[0].roofline_share is None


def test_a_budget_that_is_none_is_refused(conv_model):
    with pytest.raises(SettingError, match="must be positive"):
        profile_layers(SubjectSpec(model=conv_model), budget_s=0.0)


def test_small_types_are_moved_as_they_are_packed(save_model, tmp_path):
    held = [
        helper.make_tensor("w", TensorProto.INT4, [64, 32], [1] * 2048),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.5]),
    ]
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [], [("y", TensorProto.FLOAT, (64, 32))], held, opset=21)
    assert model_graph(path, {}).moved_bytes({0}) == 2048 // 2 + 4 + 4 * 2048
