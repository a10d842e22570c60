"""A speed that was asked for is told with what was predicted and measured, and with what FLOPs would have bought."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deploy.bundles.pruning import SpeedLanding
from deploy.report.speed_table import speed_table

FACTS = {
    "backend": "ort",
    "threads": 1,
    "asked": 0.5,
    "tolerance": 0.01,
    "predicted": (0.5, 0.49),
    "measured": (0.55, 0.505),
    "kept_round": 1,
    "macs": 0.44,
}
BY_FLOPS = {"importance": 0.9, "macs_by_flops": 0.3, "importance_by_flops": 0.8}


def results_of(*landings):
    proof = SimpleNamespace(speeds=landings)
    row = SimpleNamespace(label="pruned", pruning=SimpleNamespace(proof=proof))
    return SimpleNamespace(models=[SimpleNamespace(label="dense", pruning=None), row])


def test_one_row_for_each_speed():
    table = speed_table(results_of(SpeedLanding(**FACTS, **BY_FLOPS), SpeedLanding(**FACTS)))
    first, second = table.rows
    assert first == ("pruned", "ort, 1", "2.00x", "2.04x", "1.98x", "2", "44.0 %", "0.900", "30.0 %", "0.800")
    assert second[-3:] == ("-", "-", "-")
    assert speed_table(results_of()).rows == ()


@pytest.mark.parametrize(("kept_round", "met"), [(0, False), (1, True)])
def test_the_kept_round_decides_whether_it_is_met(kept_round, met):
    landing = SpeedLanding(**FACTS | {"kept_round": kept_round})
    assert landing.met == met
    measured = "1.98x" if met else "1.82x"
    assert f"measured {measured} in 2 rounds, with 44.0% of the MACs" in str(landing)
    assert "by FLOPs to the same time 0.800 with 30.0% of the MACs" in str(SpeedLanding(**FACTS, **BY_FLOPS))
