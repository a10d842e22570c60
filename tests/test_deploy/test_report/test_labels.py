"""Labels stand apart, beside their points where there is room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.report.drawing.labels import place_labels

WITHIN = (0.0, 0.0, 400.0, 300.0)
PLACES = st.tuples(st.floats(10, 390), st.floats(10, 290))


def test_a_label_alone_stands_beside_its_point():
    ((left, top, right, bottom),) = place_labels([(100, 100)], [(14, 12)], WITHIN, 6)
    assert (right - left, bottom - top) == pytest.approx((14, 12))
    assert abs((left + right) / 2 - 100) < 20
    assert abs((top + bottom) / 2 - 100) < 20


@given(st.lists(PLACES, min_size=1, max_size=30), st.booleans())
def test_no_label_covers_another_or_a_marker(points, alike):
    points = [points[0]] * len(points) if alike else points
    boxes = place_labels(points, [(14, 12)] * len(points), WITHIN, 6)
    markers = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    for index, box in enumerate(boxes):
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= 400
        assert box[3] <= 300
        for other in [*boxes[:index], *markers]:
            assert box[0] >= other[2] or other[0] >= box[2] or box[1] >= other[3] or other[1] >= box[3]
