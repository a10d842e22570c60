"""The page of a history is whole whatever the history holds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.ci.history.judging import Judged, KeptChange
from deploy.ci.history.page import Shown, history_page
from deploy.ci.history.records import Metric
from deploy.ci.history.series import Point, Series, by_commit

values = st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1e30, -1e30, 1e30 * (1 - 1e-16), 5e-324, 1e6, 1e6 + 1e-9])
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@st.composite
def shown(draw):
    points = [
        Point(
            value=draw(values),
            low=draw(st.none() | values),
            high=draw(st.none() | values),
            n=None,
            unfit=draw(st.booleans()),
            sha256="",
            version=draw(st.none() | words),
            created_utc=f"2026-01-{day + 1:02}T00:00:00",
            sha=draw(st.none() | st.sampled_from(["a" * 40, "b" * 40])),
            committed_utc=None,
            branch=draw(st.none() | words),
            dirty=draw(st.booleans()),
        )
        for day in range(draw(st.integers(1, 8)))
    ]
    commits = tuple(by_commit(points))
    series = Series(
        id=draw(st.integers(1, 2**62)),
        model=draw(words),
        backend="ort",
        machine=draw(words),
        metric=draw(st.sampled_from(get_args(Metric))),
        place=draw(words),
        n_points=len(points),
        last=points[-1].value,
        last_utc=points[-1].created_utc,
        last_sha=points[-1].sha,
        judged="",
        changes="[]",
    )
    changes = [
        KeptChange(
            commit=commit.name,
            sha=commit.points[0].sha,
            created_utc=commit.points[0].created_utc,
            previous=draw(words),
            before=draw(values),
            after=draw(values),
            change=draw(st.none() | values),
            low=draw(st.none() | values),
            high=draw(st.none() | values),
            p=draw(st.floats(0, 1)),
            versions=draw(st.none() | st.tuples(words, words)),
        )
        for commit in commits[1:]
        if draw(st.booleans())
    ]
    return Shown(Judged(series, draw(st.none() | st.just(tuple(changes))), draw(words)), commits)


@settings(max_examples=40)
@given(st.lists(shown(), max_size=3))
def test_any_history_makes_a_page_whose_pictures_are_whole(every):
    text = history_page("history", every)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == len(every)
    for picture, one in zip(pictures, every, strict=True):
        drawn = ET.fromstring(picture)
        circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
        assert len(circles) == len(one.commits)
        for circle in circles:
            assert 40 <= float(circle.get("cy")) <= 250
            assert 50 <= float(circle.get("cx")) <= 720


def test_the_same_history_makes_the_same_page():
    one = Shown(
        Judged(
            Series(
                id=1,
                model="m",
                backend="",
                machine="",
                metric="macs",
                place="",
                n_points=1,
                last=1.0,
                last_utc="2026-01-01T00:00:00",
                last_sha=None,
                judged="",
                changes="[]",
            ),
            (),
        ),
        tuple(
            by_commit(
                [
                    Point(
                        value=1.0,
                        low=None,
                        high=None,
                        n=None,
                        unfit=False,
                        sha256="",
                        version=None,
                        created_utc="2026-01-01T00:00:00",
                        sha=None,
                        committed_utc=None,
                        branch=None,
                        dirty=False,
                    )
                ]
            )
        ),
    )
    assert history_page("h", [one]) == history_page("h", [one])
