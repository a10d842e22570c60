"""Numbers are short and exact enough; ticks are few, round and inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.report.drawing.axes import Axis, factor_ticks, round_ticks
from deploy.report.formatting import count, duration, size


@given(st.integers(0, 10**17))
def test_numbers_are_written_to_three_digits(number):
    factors = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    digits, _, unit = count(number).partition(" ")
    assert float(digits) * factors[unit] == pytest.approx(number, rel=0.006)


def test_numbers_are_written_with_their_unit():
    assert [duration(ns) for ns in (999, 1000, 999_499, 999_600, 1_234_567, 25e9)] == [
        "999 ns",
        "1.00 us",
        "999 us",
        "1.00 ms",
        "1.23 ms",
        "25.0 s",
    ]
    assert [size(number) for number in (0, 1023, 1024, 1_572_864)] == ["0 B", "1023 B", "1.00 KiB", "1.50 MiB"]


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low, span):
    ticks = round_ticks(low, low + span)
    assert len(ticks) <= 6
    assert all(low - 1e-6 * span - 1e-9 <= tick <= low + span * (1 + 1e-6) + 1e-9 for tick in ticks)


@given(st.floats(1e-3, 1e6), st.floats(4, 1e4))
def test_ticks_of_a_logarithmic_axis_are_inside(low, factor):
    ticks = factor_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 15
    assert ticks == sorted(ticks)
    axis = Axis(low, low * factor, 10, 20, logarithmic=True)
    assert all(10 - 1e-6 <= axis.at(tick) <= 20 + 1e-6 for tick in ticks)
