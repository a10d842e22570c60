"""The page of a profile in a browser: five answers on the first screen, and the numbers of the file."""

from __future__ import annotations

import json
import statistics

import pytest

from deploy.edge.profile.page import profile_page

pytestmark = pytest.mark.browser

DESK, PHONE = (1280, 800), (390, 844)
EVIL = "<script>alert('x')</script><img src=http://example.com/x onerror=alert(1)>"


def median_ns(trials):
    return statistics.median(statistics.median(trial["calls_ns"]) for trial in trials)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_first_screen_holds_the_five_answers(opened, profile, size):
    with opened(profile_page(profile), size) as tab:
        tiles = tab.boxes(".tile")
        assert len(tiles) == 5
        for box in tiles:
            assert 0 <= box["left"] < box["right"] <= size[0]
            assert 0 <= box["top"] < box["bottom"] <= size[1]
        assert tab.words(".tile h2") == ["How fast", "How steady", "How hot", "How big", "Best setting"]
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert tab.asked == [tab.url]


def test_the_numbers_are_those_of_the_file(opened, profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    pair = document["results"]["comparisons"][0]
    with opened(profile_page(profile)) as tab:
        fast, steady, hot, big, best = tab.words(".tile .number")
        calls = [
            sorted(ns for trial in pair[side]["trials"] for block in trial["blocks_ns"] for ns in block)
            for side in ("baseline", "candidate")
        ]
        medians = [ordered[-(-len(ordered) // 2) - 1] / 1e3 for ordered in calls]
        assert [float(word) for word in fast.split() if word[0].isdigit()] == pytest.approx(medians, rel=5e-3)
        ratios = []
        for load in document["sustained"]:
            end = load["seconds"][-1]["at_s"] + load["seconds"][-1]["lasted_s"]
            first = [ns for one in load["seconds"] if one["at_s"] < 5 for ns in one["calls_ns"]]
            last = [ns for one in load["seconds"] if one["at_s"] >= end * 2 / 3 for ns in one["calls_ns"]]
            ratios.append(f"{statistics.median(first) / statistics.median(last):.2f}")
        assert [word for word in steady.split() if word[0].isdigit()] == ratios
        heat = [max(one["reading"]["celsius"] for one in load["seconds"]) for load in document["sustained"]]
        assert [float(word) for word in hot.split() if word[0].isdigit()] == [round(one) for one in heat]
        peaks = [
            max(trial["memory"]["peak_bytes"] for trial in pair[side]["trials"]) / 2**20
            for side in ("baseline", "candidate")
        ]
        assert [float(word) for word in big.split() if word[0].isdigit()] == pytest.approx(peaks, rel=5e-3)
        own = [row for row in document["sweep"] if row["label"] == pair["candidate"]["subject"]["label"]]
        fastest = min(own, key=lambda row: median_ns(row["trials"]))
        assert best == f"ort, {fastest['point']['threads']} threads on {fastest['point']['on']}"
        told = [float(words.split()[-2]) for words in tab.words(".slim .value")]
        assert told == pytest.approx([median_ns(row["trials"]) / 1e6 for row in own], rel=5e-3)


def test_latency_against_memory_and_energy_shows_the_numbers_of_the_file(opened, profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    label = document["results"]["models"][-1]["label"]
    own = [row for row in document["sweep"] if row["label"] == label]
    memory = [max(trial["peak_bytes"] for trial in row["trials"]) / 2**20 for row in own]
    energy = [
        sum(trial["energy_uj"] for trial in row["trials"])
        / sum(trial["energy_calls"] for trial in row["trials"])
        / row["point"]["batch"]
        / 1e3
        for row in own
    ]
    with opened(profile_page(profile)) as tab:
        figures = tab.page.locator(".plots figure")
        assert figures.count() == 2
        for index, costs in enumerate((memory, energy)):
            told = figures.nth(index).locator("g.setting title").all_text_contents()
            numbers = [words.rpartition("(")[2].rstrip(")").split(", ") for words in told]
            times = [float(time.split()[0]) for time, _ in numbers]
            assert times == pytest.approx([median_ns(row["trials"]) / 1e6 for row in own], rel=5e-3)
            assert [float(cost.split()[0]) for _, cost in numbers] == pytest.approx(costs, rel=5e-3)
            caption = figures.nth(index).locator("figcaption").inner_text()
            squares = figures.nth(index).locator("g.setting:has(rect) title").all_text_contents()
            assert [words for words in told if words in caption] == squares != []


def test_the_course_of_the_load_is_drawn(opened, profile):
    with opened(profile_page(profile)) as tab:
        lines = tab.page.locator("section svg:not(.front) polyline")
        assert lines.count() == 2 * 4, "latency, clock, temperature and power of both"
        words = " ".join(tab.page.locator("section svg text").all_text_contents())
        for quantity in ("median call", "clock", "temperature", "power"):
            assert quantity in words


@pytest.mark.parametrize("bare", [pytest.param(False, marks=pytest.mark.slow), True], ids=["whole", "bare"])
def test_the_page_suits_everybody(opened, profile, bare):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here: make browser installs it")
    if bare:
        profile = profile.model_copy(update={"cold": (), "sustained": (), "sweep": (), "left_out": ()})
    with opened(profile_page(profile), PHONE, scripts=True) as tab:
        tab.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        found = axe.Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
        tab.page.emulate_media(color_scheme="dark")
        found += axe.Axe().run(tab.page, options={"runOnly": ["color-contrast"]}).response["violations"]
        assert not found, [(one["id"], one["help"], one["nodes"][0]["html"]) for one in found]
        assert tab.complaints == []


def test_markup_from_outside_does_nothing(opened, profile):
    board = profile.board.model_copy(update={"model": EVIL, "no_energy": EVIL, "energy": ()})
    absent = tuple(one.model_copy(update={"why": EVIL}) for one in profile.absent)
    evil = profile.model_copy(update={"board": board, "absent": absent, "refused": (EVIL,), "left_out": (EVIL,)})
    with opened(profile_page(evil), scripts=True) as tab:
        assert tab.complaints == []
        assert tab.asked == [tab.url]
