"""Each layer whose time did not follow its MACs has the reason that was measured, and the reasons add up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import NotComparableError
from benchmarks.layers.explanation import Explanation, explain
from benchmarks.layers.layer_profile import LayerProfile, LayerRow
from benchmarks.records.measurement import Subject


def row(name, us, macs=0, channels=None, **facts):
    kind = "layer" if facts.pop("nodes", True) else "layout conversion"
    nodes = (name,) if kind == "layer" else ()
    time_ns = None if us is None else round(1000 * us)
    return LayerRow(name=name, kind=kind, nodes=nodes, time_ns=time_ns, macs=macs, channels=channels, **facts)


def profile(*rows, us=None, uncounted=(), **subject):
    layers_us = sum(one.time_ns or 0 for one in rows) / 1000
    whole = layers_us if us is None else us
    gaps = LayerRow(name="gaps", kind="gaps", time_ns=round(1000 * (whole - layers_us)))
    return LayerProfile(
        subject=Subject(**{"label": "m", "model": "m.onnx", "sha256": "", "backend": "ort"} | subject),
        executed_precision="fp32",
        latency_ns=1000 * whole,
        n_calls=1,
        profiled_ns=1000 * whole,
        n_profiled=1,
        rows=(*rows, gaps),
        uncounted=uncounted,
    )


def conv(name, us, channels, *, groups=1, pixels=100, **facts):
    return row(name, us, channels[0] * channels[1] * pixels // groups, channels, groups=groups, **facts)


def layers_of(found):
    return {layer.name: layer for layer in found.layers}


def sums(found):
    return {one.reason: one.missing_ns / 1000 for one in found.reasons}


def one_layer(before, after, **known):
    """Explain a layer beside another one that follows its MACs."""
    rows = [conv("other", us, (width, 64)) for us, width in ((1000, 128), (500, 64))]
    found = explain(profile(after, rows[1]), profile(before, rows[0]), **known)
    assert layers_of(found)["other"].reason == "followed"
    return layers_of(found)[before.name]


def test_counts_off_the_block_are_named_with_the_block_that_was_found():
    before, after = conv("c", 100, (96, 64)), conv("c", 90, (47, 32))
    layer = one_layer(before, after, block=16)
    assert layer.reason == "counts off the block"
    assert layer.why == ("47 input channels are not a multiple of 16 (dense: 96)",)
    assert math.isclose(layer.missing_ns, 90_000 - 100_000 * (47 * 32) / (96 * 64))
    # The same layer, where the runtime has blocks that it fills, or none, or nobody knows.
    assert one_layer(before, conv("c", 90, (40, 24)), block=8).reason == "not explained"
    assert one_layer(before, after, block=1).reason == "not explained"
    assert one_layer(before, after).reason == "not explained"


def test_both_axes_are_named_and_an_unchanged_count_is_no_reason():
    before, after = conv("c", 100, (3, 64)), conv("c", 100, (3, 33))
    assert one_layer(before, after, block=16).why == ("33 output channels are not a multiple of 16 (dense: 64)",)
    before, after = conv("c", 100, (64, 64)), conv("c", 100, (33, 35))
    assert [text.split()[:2] for text in one_layer(before, after, block=16).why] == [["33", "input"], ["35", "output"]]


def test_another_kernel_is_evidence_beside_the_counts_and_a_reason_without_them():
    before = conv("c", 100, (64, 64), runtime_kind="Blocked")
    after = conv("c", 100, (33, 64), runtime_kind="Plain")
    layer = one_layer(before, after, block=16)
    assert (layer.reason, layer.why[-1]) == ("counts off the block", "Plain instead of Blocked")
    layer = one_layer(before, conv("c", 100, (32, 64), runtime_kind="Plain"), block=16)
    assert (layer.reason, layer.why) == ("another kernel", ("Plain instead of Blocked",))


def test_a_layer_that_costs_what_calling_it_costs_is_bound_by_that():
    before, after = conv("c", 4, (64, 64)), conv("c", 2.9, (32, 32))
    layer = one_layer(before, after, block=16, layer_overhead_ns=2500)
    assert (layer.reason, layer.why) == ("overhead-bound", ("no layer takes less than 2.5 us",))
    assert one_layer(before, after, block=16, layer_overhead_ns=100).reason == "not explained"
    # Counts do not matter to it, as long as overhead is most of what is missing.
    assert one_layer(before, conv("c", 2.9, (33, 32)), block=16, layer_overhead_ns=2500).reason == "overhead-bound"
    assert one_layer(before, conv("c", 40, (33, 32)), block=16, layer_overhead_ns=2500).reason == "counts off the block"


def test_depthwise_and_memory_bound_layers_say_what_is_left_of_their_bytes():
    before = conv("c", 100, (64, 64), groups=64, moved_bytes=1000, bound="memory")
    after = conv("c", 90, (32, 32), groups=32, moved_bytes=700, bound="memory")
    layer = one_layer(before, after, block=16)
    assert (layer.reason, layer.why) == ("depthwise", ("70 % of its bytes are left",))
    before = conv("c", 100, (64, 64), moved_bytes=1000, bound="memory")
    assert one_layer(before, conv("c", 90, (32, 32), bound="memory"), block=16).why == ()  # its bytes are not known
    after = conv("c", 90, (32, 32), moved_bytes=700, bound="memory")
    layer = one_layer(before, after, block=16)
    assert (layer.reason, layer.why) == ("memory-bound", ("70 % of its bytes are left",))


def test_bytes_that_do_not_account_for_the_time_are_no_reason():
    before = conv("c", 100, (64, 64), moved_bytes=1000, bound="memory")
    assert (
        one_layer(before, conv("c", 100, (32, 32), moved_bytes=250, bound="memory"), block=16).reason == "not explained"
    )


def test_a_layer_that_kept_all_it_had_is_not_explained_by_what_it_is():
    for groups in (1, 64):
        before = conv("c", 100, (64, 64), groups=groups, moved_bytes=1000, bound="memory")
        after = conv("c", 115, (64, 64), groups=groups, moved_bytes=1000, bound="memory")
        layer = one_layer(before, after, block=16)
        assert (layer.reason, layer.why) == ("not explained", ())


def test_a_depthwise_layer_off_the_block_names_its_channels_once():
    before, after = conv("c", 100, (64, 64), groups=64), conv("c", 300, (33, 33), groups=33)
    assert one_layer(before, after, block=8).why == ("33 channels are not a multiple of 8 (dense: 64)",)


def test_what_was_left_whole_counts_where_its_macs_cost_more_than_others():
    dense = profile(conv("dear", 100, (16, 16)), conv("c", 100, (128, 64)))
    pruned = profile(conv("dear", 100, (16, 16)), conv("c", 50, (64, 64)))
    found = explain(pruned, dense, whole={"dear": "coupled to the input"})
    layer = layers_of(found)["dear"]
    assert (layer.reason, layer.why, layer.missing_ns) == ("left whole", ("coupled to the input",), 0)
    assert sums(found)["left whole"] > 40
    assert math.isclose(sum(sums(found).values()), found.missing_ns / 1000)


def test_macs_removed_where_they_cost_little_are_missing_though_every_layer_followed():
    dense = profile(conv("dear", 100, (16, 16)), conv("cheap", 100, (128, 64)))
    pruned = profile(conv("dear", 88, (16, 14)), conv("cheap", 50, (64, 64)))
    found = explain(pruned, dense)
    assert {layer.reason for layer in found.layers} == {"followed"}
    assert math.isclose(sums(found)["MACs removed where cheap"], found.missing_ns / 1000, rel_tol=0.02)


def test_reorders_that_the_runtime_put_in_are_counted():
    dense = profile(conv("c", 100, (64, 64)), row("r0", 5, nodes=False))
    pruned = profile(conv("c", 50, (32, 64)), *(row(f"r{i}", 10, nodes=False) for i in range(4)))
    found = explain(pruned, dense)
    layer = layers_of(found)["layout conversion"]
    assert (layer.reason, layer.why, layer.missing_ns) == ("reorders put in", ("4 of them instead of 1",), 37_500)
    assert next(one for one in found.reasons if one.reason == "reorders put in").n_layers == 4
    # As many as before: nothing was put in, though it takes longer.
    found = explain(profile(conv("c", 50, (32, 64)), row("r0", 7, nodes=False)), dense)
    assert layers_of(found)["layout conversion"].reason == "no MACs to remove"


def test_a_layer_without_macs_promises_what_the_network_does():
    dense = profile(conv("c", 100, (64, 64)), row("pool", 40, moved_bytes=100))
    found = explain(profile(conv("c", 50, (32, 64)), row("pool", 36, moved_bytes=90)), dense)
    layer = layers_of(found)["pool"]
    assert (layer.reason, layer.missing_ns, layer.why) == ("no MACs to remove", 16_000, ("90 % of its bytes are left",))


def test_a_gain_beyond_the_promise_is_no_loss():
    layer = one_layer(conv("c", 100, (64, 64)), conv("c", 20, (33, 64)), block=16)
    assert (layer.reason, layer.why) == ("more than promised", ())


def test_unknown_macs_and_times_stop_nothing():
    dense = profile(conv("c", 100, (64, 64)), row("strange", 40), row("folded", None), uncounted=("strange",))
    pruned = profile(conv("c", 50, (32, 64)), row("strange", 30), row("folded", None), uncounted=("strange",))
    found = explain(pruned, dense)
    layer = layers_of(found)["strange"]
    assert (layer.reason, layer.dense.macs, layer.missing_ns) == ("MACs unknown", None, 10_000)
    assert layers_of(found)["folded"].pruned.time_ns is None


def test_without_any_macs_nothing_is_promised():
    found = explain(profile(row("s", 30), uncounted=("s",)), profile(row("s", 40), uncounted=("s",)))
    assert (found.promised_share, found.missing_ns, found.reasons, found.time_share) == (None, None, (), 0.75)
    assert layers_of(found)["s"].reason == "MACs unknown"


def test_layers_of_one_network_only():
    dense = profile(conv("c", 100, (64, 64)), conv("gone", 100, (64, 64)))
    found = explain(profile(conv("c", 100, (64, 64)), row("new", 7)), dense, block=16)
    assert layers_of(found)["gone"].pruned.layers == ()
    assert (layers_of(found)["new"].reason, layers_of(found)["new"].missing_ns) == ("no counterpart", 7_000)
    assert math.isclose(sum(sums(found).values()), found.missing_ns / 1000)


def test_other_names_are_matched_by_what_is_said_to_be_the_same():
    dense, pruned = profile(conv("a", 100, (64, 64))), profile(conv("b", 100, (33, 64)))
    (layer,) = explain(pruned, dense, {"b": "a"}, block=16).layers
    assert (layer.name, layer.pruned.layers, layer.reason) == ("a", ("b",), "counts off the block")
    assert len(explain(pruned, dense, {}).layers) == 2


def test_calls_that_were_interrupted_do_not_count():
    dense, pruned = profile(conv("c", 100, (64, 64)), us=400), profile(conv("c", 60, (32, 64)), us=900)
    dense, pruned = (side.model_copy(update={"undisturbed_ns": ns}) for side, ns in ((dense, 1e5), (pruned, 6e4)))
    found = explain(pruned, dense, block=64)
    assert (found.dense_ns, found.pruned_ns, found.missing_ns) == (1e5, 6e4, 1e4)
    assert sums(found)["counts off the block"] == 10
    assert "outside the layers" not in sums(found)


def test_layers_are_summed_where_whole_calls_tell_something_else():
    dense, pruned = profile(conv("c", 100, (64, 64)), us=400), profile(conv("c", 60, (32, 64)), us=900)
    found = explain(pruned, dense)
    assert (found.of_layers, found.dense_ns, found.pruned_ns, found.missing_ns) == (True, 1e5, 6e4, 1e4)
    dense, pruned = profile(conv("c", 100, (64, 64)), us=110), profile(conv("c", 60, (32, 64)), us=70)
    found = explain(pruned, dense)
    assert (found.of_layers, found.dense_ns, found.pruned_ns) == (False, 1.1e5, 7e4)
    assert sums(found)["outside the layers"] == 5


def test_unlike_settings_are_not_explained():
    with pytest.raises(NotComparableError, match="threads 1 and threads 2"):
        explain(profile(conv("c", 1, (4, 4)), threads=2), profile(conv("c", 1, (4, 4))))


TIMES = st.floats(0.5, 1e4)
WIDTHS = st.tuples(st.integers(1, 200), st.integers(1, 200))


@given(
    layers=st.lists(st.tuples(TIMES, TIMES, WIDTHS, WIDTHS, st.booleans()), min_size=1, max_size=8),
    calls=st.tuples(TIMES, TIMES),
    block=st.sampled_from([None, 1, 8]),
)
def test_the_reasons_add_up_to_what_is_missing(layers, calls, block):
    sides = [
        [
            conv(f"n{i}", one[side], one[2 + side]) if one[4] or not i else row(f"n{i}", one[side])
            for i, one in enumerate(layers)
        ]
        for side in (0, 1)
    ]
    dense, pruned = (profile(*rows, us=us) for rows, us in zip(sides, calls, strict=True))
    found = explain(pruned, dense, block=block, layer_overhead_ns=1000.0)
    promised = found.promised_share * found.dense_ns
    assert math.isclose(found.missing_ns, found.pruned_ns - promised)
    scale = max(found.pruned_ns, promised, *(abs(one.missing_ns) for one in found.reasons))
    assert math.isclose(sum(one.missing_ns for one in found.reasons), found.missing_ns, abs_tol=1e-6 * scale)
    assert [one.missing_ns for one in found.reasons] == sorted((one.missing_ns for one in found.reasons), reverse=True)
    assert Explanation.model_validate_json(found.model_dump_json()) == found
