"""The page of a history in a browser: its numbers are those of the database, and everybody can read it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.ci.check_report import Commit
from deploy.ci.history.database import reading
from deploy.ci.history.derive import run_of_results
from deploy.ci.history.figures import value_words
from deploy.ci.history.judging import judged
from deploy.ci.history.page import Shown, history_page
from deploy.ci.history.series import Filters, by_commit, points_of
from deploy.ci.history.store import add_runs
from deploy.results.results import load

pytestmark = pytest.mark.browser

GOLDEN = Path(__file__).parents[2] / "golden"
DESK, PHONE = (1280, 800), (390, 844)
EVIL = "<script>alert('x')</script><img src=http://example.com/x onerror=alert(1)>"


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """40 commits, one model, 8 % slower from the 26th; the 30th on a machine that was not fit."""
    path = tmp_path_factory.mktemp("history") / "history.sqlite"
    whole = run_of_results(load(GOLDEN / "results-v1.json"))
    ours = [one for one in whole.points if one.key.backend in ("", "ort") and one.key.metric != "load_ns"]

    def runs():
        for number in range(40):
            factor = (1.08 if number >= 25 else 1.0) * (1 + 0.002 * (7 * number % 11))
            when = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)).isoformat()
            points = tuple(
                one.model_copy(
                    update={
                        "value": one.value * (factor if one.key.metric.endswith("_ns") else 1),
                        "low": one.low and one.low * factor,
                        "high": one.high and one.high * factor,
                        "unfit": number == 30,
                        "version": "1.1" if number >= 25 and one.version else one.version,
                    }
                )
                for one in ours
            )
            commit = Commit(sha=f"{number + 1:040x}", branch=EVIL, committed_utc=when, dirty=number == 7)
            yield whole.model_copy(update={"created_utc": when, "commit": commit, "points": points, "measurements": ()})

    add_runs(path, runs())
    return path


def page_of(history, *metrics):
    found = judged(history, Filters(metrics=metrics))
    with reading(history) as connection:
        shown = [Shown(one, tuple(by_commit(points_of(connection, one.series.id)))) for one in found]
    return history_page(history.name, shown)


def test_the_numbers_are_those_of_the_database(opened, history):
    with closing(sqlite3.connect(history)) as connection:
        series = dict(connection.execute("SELECT id, metric FROM series"))
        values = {
            number: [
                value_words(metric, value)
                for (value,) in connection.execute(
                    "SELECT value FROM points WHERE series = ? ORDER BY position", (number,)
                )
            ]
            for number, metric in series.items()
        }
    with opened(page_of(history)) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.page.locator("svg.series").count() == len(series)
        for number in series:
            section = tab.page.locator(f"section:has(> h3#series-{number})")
            heads = section.locator("thead th").all_inner_texts()
            column = heads.index("value") + 1
            cells = section.locator(f"tbody tr > :nth-child({column})").all_inner_texts()
            assert cells == values[number]
            hovered = section.locator("svg circle").evaluate_all(
                "found => found.map(one => one.parentNode.textContent)"
            )
            assert [value in words for value, words in zip(values[number], hovered, strict=True)] == [True] * 40


def test_points_stand_as_high_as_the_numbers_say(opened, history):
    with closing(sqlite3.connect(history)) as connection:
        [(number,)] = connection.execute(
            "SELECT id FROM series WHERE metric = 'p50_ns' AND model LIKE '%pruned' AND backend = 'ort'"
        )
        values = [
            one
            for (one,) in connection.execute("SELECT value FROM points WHERE series = ? ORDER BY position", (number,))
        ]
    with opened(page_of(history)) as tab:
        boxes = tab.boxes(f"section:has(> h3#series-{number}) svg circle")
        middles = [(box["top"] + box["bottom"]) / 2 for box in boxes]
        scale = (middles[0] - middles[-1]) / (values[-1] - values[0])
        for middle, value in zip(middles, values, strict=True):
            assert middles[0] - middle == pytest.approx(scale * (value - values[0]), abs=0.6)
        lefts = [box["left"] for box in boxes]
        assert lefts == sorted(lefts)


def test_a_change_is_listed_and_drawn_with_its_commit(opened, history):
    pytest.importorskip("ruptures", reason="the extra history is not installed")
    with opened(page_of(history)) as tab:
        listed = tab.words(".changes li")
        slower = [line for line in listed if "p50" in line]
        assert len(slower) == 2
        for line in slower:
            assert f"between {25:040x}"[:18] in line
            assert "the backend went from 1.0 to 1.1" in line
        assert tab.page.locator("svg.series line.change.loss").count() == len(listed)
        anchor = tab.page.locator(".changes a").first.get_attribute("href")
        assert tab.page.locator(anchor).count() == 1


def test_the_page_suits_everybody(opened, history):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here: make browser installs it")
    with opened(page_of(history, "p50_ns", "macs"), PHONE, scripts=True) as tab:
        for size in (PHONE, DESK):
            tab.page.set_viewport_size({"width": size[0], "height": size[1]})
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
            answer = tab.boxes(".answer")[0]
            assert 0 < answer["top"] < answer["bottom"] <= size[1]
        tab.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= DESK[0]
        found = axe.Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
        tab.page.emulate_media(color_scheme="dark")
        found += axe.Axe().run(tab.page, options={"runOnly": ["color-contrast"]}).response["violations"]
        assert not found, [(one["id"], one["help"], one["nodes"][0]["html"]) for one in found]
        assert tab.complaints == []
        assert tab.asked == [tab.url]
        assert tab.page.locator("script, img").count() == 0
        assert any(EVIL in words for words in tab.words("p.soft")), "a branch may be called anything"


def test_an_empty_history_says_so(opened):
    with opened(history_page("none", [])) as tab:
        assert tab.words(".answer") == ["There is no series to show."]
        assert tab.complaints == []
