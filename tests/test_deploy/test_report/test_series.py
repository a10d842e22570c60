"""A series is drawn whole, whatever its values."""

from __future__ import annotations

import re

import pytest

from deploy.report.drawing.series import Mark, series_plot


@pytest.mark.parametrize("values", [(0.0, 0.0), (0.0, 5e-324), (1e-310, 2e-310), (3e6, 3e6), (3e6, 4e6), (0.0, 1e300)])
def test_values_that_hardly_differ_or_vanish_have_a_place_in_the_plot(values):
    marks = [Mark(value=value, low=None, high=None, words="", date="2026-01-01") for value in values]
    drawn = series_plot("one", "title", "description", (1e6, "ms"), marks, [])
    heights = [float(found) for found in re.findall(r'<circle[^>]*cy="([^"]*)"', drawn)]
    assert len(heights) == len(values)
    assert heights[0] >= heights[1]
    assert all(40 <= height <= 250 for height in heights)
