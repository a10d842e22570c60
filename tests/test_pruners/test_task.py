"""Targets and constraints refuse nonsense when they are made."""

from __future__ import annotations

import math

import pytest

from pruners.errors import SelectorError, TargetError
from pruners.target import COSTS, Constraints, Target


@pytest.mark.parametrize("fraction", [0, 1, 1.5, -0.1, 50, math.nan])
@pytest.mark.parametrize("of", COSTS)
def test_a_kept_fraction_lies_between_none_and_all(of, fraction):
    with pytest.raises(TargetError, match=f"share of {of} kept"):
        Target(of=of, kept_fraction=fraction)


@pytest.mark.parametrize("share", [1, -0.1, 30, math.nan])
def test_a_ratio_is_the_share_removed(share):
    with pytest.raises(TargetError, match="'conv1' is the share removed"):
        Target(of="ratios", ratios={"conv1": share})


def test_ratios_need_a_pattern():
    with pytest.raises(TargetError, match="at least one pattern"):
        Target(of="ratios")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"multiple_of": 0}, "multiple_of is at least 1, got 0"),
        ({"min_units": 0}, "min_units is at least 1, got 0"),
        ({"min_fraction": 1.5}, "min_fraction .* got 1.5"),
        ({"min_fraction": math.nan}, "min_fraction .* got nan"),
        ({"max_units_per_step": 0}, "max_units_per_step is at least 1, got 0"),
        ({"max_fraction_per_step": 0.0}, r"max_fraction_per_step .* in \(0, 1\]; got 0.0"),
        ({"max_fraction_per_step": math.nan}, "max_fraction_per_step .* got nan"),
        ({"bounds": {"a": (0.6, 0.5)}}, r"bounds of 'a' .* got \(0.6, 0.5\)"),
        ({"bounds": {"a": (0.0, 0.0)}}, r"bounds of 'a' .* got \(0.0, 0.0\)"),
        ({"bounds": {"a": (0.5, math.nan)}}, r"bounds of 'a' .* got \(0.5, nan\)"),
        ({"bounds": {"a": 0.5}}, "bounds of 'a' .* got 0.5"),
        ({"form": "onnx"}, "form is one of auto, module, graph; got 'onnx'"),
    ],
)
def test_constraints_are_checked(values, said):
    with pytest.raises(TargetError, match=said):
        Constraints(**values)


def test_an_unknown_target_says_which_there_are():
    with pytest.raises(
        TargetError, match="one of flops, macs, params, weight_bytes, activation_bytes, latency, ratios; got 'energy'"
    ):
        Target(of="energy", kept_fraction=0.5)


def test_one_pattern_is_not_taken_letter_by_letter():
    with pytest.raises(SelectorError, match=r"write \('stem',\)"):
        Constraints(exclude="stem")
