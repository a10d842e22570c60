"""A latency model knows how many units of each group make whole channel blocks."""

from __future__ import annotations

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
