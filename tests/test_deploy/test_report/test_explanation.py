"""Why time did not follow MACs, in words: they agree with the numbers beside them."""

from __future__ import annotations

from benchmarks.layers.explanation import ExplainedLayer, Explanation, LayerSide
from benchmarks.records.measurement import Subject
from deploy.report.explanation import answer, explanation_tables


def explanation(*layers, **facts):
    sides = {side: Subject(label=side, model=f"{side}.onnx", sha256="", backend="ort") for side in ("dense", "pruned")}
    known = {"dense_ns": 1e5, "pruned_ns": 9e4, "dense_macs": 100, "pruned_macs": 50, "missing_ns": 4e4}
    return Explanation(**sides, block_from="unknown", reasons=(), layers=layers, **known | facts)


def layer(reason, missing_us, uneven_reason, uneven_us):
    side = LayerSide(layers=("c",), time_ns=1e5)
    return ExplainedLayer(
        name="c", dense=side, pruned=side, reason=reason, missing_ns=1000 * missing_us,
        uneven_reason=uneven_reason, uneven_ns=1000 * uneven_us,
    )  # fmt: skip


def why(one):
    row, *_ = explanation_tables(explanation(one))[1].rows
    return row[-1]


def test_a_row_has_the_reason_of_the_larger_part_of_its_time():
    assert why(layer("more than promised", -40, "left whole", 143)).startswith("left whole")
    assert why(layer("counts off the block", 143, "left whole", 40)).startswith("counts off the block")


def test_a_row_that_gained_time_has_no_reason_of_a_loss():
    assert why(layer("followed", 2, "MACs removed where cheap", -53)).startswith("more than promised")


def test_sums_of_layers_are_not_called_the_time_of_a_call():
    assert answer(explanation()).startswith("On ort, pruned takes 90.0 us: 0.90x the time of dense (100 us).")
    assert answer(explanation(of_layers=True)).startswith(
        "On ort, the layers of pruned take 90.0 us: 0.90x the time of those of dense (100 us)."
    )
