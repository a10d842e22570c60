"""A share of the FLOPs whose counts are not aligned says what it risks, where it risks something, once."""

from __future__ import annotations

import pytest

from deploy.recipe import Bench, Prune
from deploy.run.alignment import alignment_risk

CPU = Bench(backends=("openvino", "null", "ort"))


def risk(bench=CPU, key="target", **prune):
    return alignment_risk([Prune(**prune)], bench, key)


def test_the_line_says_what_to_write_instead():
    assert risk(target={"flops": 0.5}) == (
        "50 % of the FLOPs with odd channel counts can run slower than the dense network on openvino and ort; write "
        "target: {speed_up: 2, on: openvino}, or multiple_of: 8"
    )
    assert "35 % of the MACs" in (told := risk(target={"macs": 0.35}, key="budgets"))
    assert "write budgets: [{speed_up: 2.86, on: openvino}], or" in told


@pytest.mark.parametrize(
    "prune",
    [
        {"target": {"flops": 0.5}, "multiple_of": 8},
        {"target": {"params": 0.5}},
        {"target": {"speed_up": 2.0}},
        {"target": {"ratios": {"*": 0.5}}},
        {"target": {"flops": 0.5}, "method": "magnitude"},
    ],
)
def test_where_nothing_is_risked_nothing_is_said(prune):
    assert risk(**prune) == ""


def test_only_runtimes_of_the_cpu_with_blocks_are_spoken_of():
    assert risk(Bench(backends=("null",)), target={"flops": 0.5}) == ""
    assert risk(Bench(backends=("trt",)), target={"flops": 0.5}) == ""
    assert risk(Bench(backends=("ort",), device="cuda"), target={"flops": 0.5}) == ""


def test_the_first_of_many_is_told():
    many = [Prune(target={"speed_up": 3.0}), Prune(target={"flops": 0.5}), Prune(target={"flops": 0.25})]
    assert alignment_risk(many, CPU).startswith("50 % of the FLOPs")
