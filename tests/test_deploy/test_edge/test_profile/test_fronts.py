"""Latency against memory and energy: points stand where the file says, the best are those that no other beats."""

from __future__ import annotations

import math
import statistics
import xml.etree.ElementTree as ET

import pytest

from deploy.edge.profile.fronts import fronts
from deploy.edge.profile.record import Point

from .conftest import swept

MAIN = Point(backend="ort", precision="fp32", threads=8, batch=1)


def _swept_profile(profile, rows):
    """Measure a single model at threads 1, 2, ... : latency in ns, memory in bytes, energy in uJ."""
    label = profile.results.models[-1].label
    sweep = tuple(
        swept(label, MAIN.model_copy(update={"threads": number}), ns, peak=peak, energy_uj=energy)
        for number, (ns, peak, energy) in enumerate(rows, 1)
    )
    return profile.model_copy(update={"sweep": sweep})


def _settings(picture):
    """Return what each point says, whether it is one of the best, and where it stands."""
    found = {}
    for group in ET.fromstring(picture).iter("g"):
        words = group.findtext("title")
        square, ring = group.find("rect"), group.find("circle")
        if square is not None:
            place = (float(square.get("x")) + 4.5, float(square.get("y")) + 4.5)
        else:
            place = (float(ring.get("cx")), float(ring.get("cy")))
        found[words] = (square is not None, place)
    return found


ROWS = (
    (9e6, 100 << 20, 50_000),
    (7e6, 140 << 20, 70_000),
    (8e6, 150 << 20, 40_000),
    (12e6, 90 << 20, 60_000),
    (13e6, 95 << 20, 30_000),
)


@pytest.mark.parametrize(("which", "column"), [(0, 1), (1, 2)])
def test_the_best_are_those_that_no_other_beats_in_both(profile, which, column):
    picture, caption = list(fronts(_swept_profile(profile, ROWS)))[which]
    best = {
        number
        for number, row in enumerate(ROWS, 1)
        if not any(other[0] <= row[0] and other[column] <= row[column] and other != row for other in ROWS)
    }
    found = _settings(picture)
    assert len(found) == len(ROWS)
    assert {int(words.split()[1]) for words, (is_best, _) in found.items() if is_best} == best
    named = caption.partition("both. ")[2].rstrip(".").split("; ")
    assert [words.partition(": ")[0] for words in named] == [str(number) for number in range(1, len(best) + 1)]
    assert {int(words.split()[2]) for words in named} == best
    numbers = [one.text for one in ET.fromstring(picture).iter("text") if one.get("class") == "label"]
    assert numbers == [str(number) for number in range(1, len(best) + 1)]


@pytest.mark.parametrize("slowest", [13e6, 130e6], ids=["linear", "logarithmic"])
def test_points_stand_where_their_numbers_are(profile, slowest):
    rows = (*ROWS[:4], (slowest, *ROWS[4][1:]))
    memory, energy = (_settings(picture) for picture, _ in fronts(_swept_profile(profile, rows)))
    measure = (lambda ns: ns) if slowest < 4 * 7e6 else math.log
    for found, column in ((memory, 1), (energy, 2)):
        places = [place for _, (_, place) in sorted(found.items(), key=lambda one: int(one[0].split()[1]))]
        for axis, values in ((0, [measure(row[0]) for row in rows]), (1, [row[column] for row in rows])):
            at = [place[axis] for place in places]
            line = statistics.linear_regression(values, at)
            assert (line.slope > 0) == (axis == 0), "latency grows to the right, cost upwards"
            assert at == pytest.approx([line.slope * value + line.intercept for value in values], abs=0.02)
            assert max(at) - min(at) > 100


def test_what_is_not_counted_is_not_drawn(profile):
    uncounted = _swept_profile(profile, [(ns, peak, None) for ns, peak, _ in ROWS])
    (only,) = fronts(uncounted)
    assert only.caption.startswith("Latency against memory.")
    assert list(fronts(_swept_profile(profile, ROWS[:1]))) == [], "a single setting is no choice"
    assert list(fronts(profile.model_copy(update={"sweep": ()}))) == []


def test_another_precision_is_no_point(profile):
    made = _swept_profile(profile, ROWS)
    coarse = made.sweep[0].point.model_copy(update={"precision": "bf16"})
    more = (*made.sweep, swept(made.sweep[0].label, coarse, 1e6, peak=1 << 20, energy_uj=1))
    for picture, _ in fronts(made.model_copy(update={"sweep": more})):
        assert len(_settings(picture)) == len(ROWS)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 0, 0), (1, 0, 0)],
        [(1, 1 << 60, 10**13), (10**14, 0, 0)],
        [(5e6 + number, (1000 - number) << 20, 7) for number in range(300)],
    ],
    ids=["nothing", "extremes", "many"],
)
def test_any_file_can_be_drawn(profile, rows):
    drawn = list(fronts(_swept_profile(profile, rows)))
    assert len(drawn) == 2
    for picture, caption in drawn:
        assert all(0 <= place <= 440 for _, at in _settings(picture).values() for place in at)
        assert len(caption) < 1000
    assert len(rows) < 300 or "and 288 more" in drawn[0].caption
