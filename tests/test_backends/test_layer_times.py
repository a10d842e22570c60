"""A layer's time is not that of a program that took the core from it."""

from __future__ import annotations

import pytest

from backends.layer_times import undisturbed_mean


@pytest.mark.parametrize(
    ("times", "mean"),
    [
        ([90_000, 50_000, 52_000, 51_000], 51_000),  # the first execution prepares
        ([90_000], 90_000),
        ([1, 50_000, 24_000_000, 52_000, 51_000], 51_000),  # interrupted
        ([1, 0, 1000, 0, 1000, 0, 0], 333),  # shorter than the clock counts
        ([1, 2000, 3000, 2000, 4000], 2750),
    ],
)
def test_mean_of_what_nothing_interrupted(times, mean):
    assert undisturbed_mean(times) == mean
