"""A latency model knows how many units of each group make whole channel blocks."""

from __future__ import annotations

from dataclasses import replace

from pruners.decide.budget import TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.landing import landing_of
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm


def test_units_of_whole_blocks():
    """Where a group's units have several widths, the narrowest decides: wider ones are then whole blocks, too."""
    factors = (BlockCount("a", 4), BlockCount("a", 1), BlockCount("b", 6), BlockCount("c", 16))
    model = LatencyModel(
        backend="x",
        graph="g",
        block=8,
        base_ns=1.0,
        terms=tuple(LatencyTerm(1.0, (factor,)) for factor in factors),
        sizes={"a": 64, "b": 16, "c": 4, "untimed": 8},
    )
    assert model.block_units() == {"a": 8, "b": 4, "c": 1, "untimed": 8}


def test_of_several_times_the_one_closest_to_its_limit_is_told():
    """Shares of the dense time would mix two backends: half of one is not half of the other."""
    model = LatencyModel(
        backend="x",
        graph="g",
        block=8,
        base_ns=0.0,
        terms=(LatencyTerm(1.0, (BlockCount("a", 1),)),),
        sizes={"a": 64},
    )
    budget = time_budget([TimeLimit(model, 5.0, dense_ns=8.0), TimeLimit(replace(model, backend="y"), 7.9, 8.0)])
    told = landing_of(Choices({"a": tuple(range(8, 65, 8))}), {"a": 32}, budget)
    assert str(told).startswith("latency: 80.00% of the time allowed is predicted, on the backend closest to its limit")
    assert str(told).endswith("; the smallest legal step up, of 'a', would give 100.00%")
