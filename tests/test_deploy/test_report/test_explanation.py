"""Why time did not follow MACs, in words: they agree with the numbers beside them."""

from __future__ import annotations

from benchmarks.layers.aligned_plan import AlignedPlan
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


def test_the_best_plan_is_told_beside_the_network_and_the_rounded_counts():
    def plan(rounded, importance, predicted, measured=None):
        return AlignedPlan(
            rounded=rounded, counts={}, importance=importance, macs_share=0.5, predicted_share=predicted,
            measured_share=measured,
        )  # fmt: skip

    plans = (plan("not", 0.8, 0.9), plan("to the nearest", 0.79, 0.6), plan("best", 0.85, 0.5, 0.51))
    found = explanation(plans=plans, block=16)
    said = answer(found)
    assert "With counts rounded to the nearest multiple of 16 it takes 0.600 of the dense time (predicted)." in said
    assert said.endswith(
        "The best plan for the promised time keeps 85 % of the importance, by its counts, instead of 80 %, and takes "
        "0.510 of the dense time (measured; predicted: 0.500)."
    )
    rows = explanation_tables(found)[1].rows
    assert rows[-1] == ("best for the promised time", "50 %", "85 %", "0.500", "0.510")
    assert rows[0][-1] == "-"
