"""The pages in a browser: the answer stands on the first screen, nothing is fetched, and everybody can read it."""

from __future__ import annotations

import json
import lzma
import runpy
from pathlib import Path

import pytest

from benchmarks.layers.comparison import LayerReport, compare_layers
from benchmarks.layers.explanation import Explanation
from benchmarks.records.file import load as load_record
from benchmarks.scenarios.load import LoadMeasurement
from deploy.ci.formats.page import check_page
from deploy.report.explanation import explanation_page
from deploy.report.page import page
from deploy.report.pages.tables_with_bars import layer_page, load_page
from deploy.report.plan_picture import plan_page
from deploy.report.plan_rows import group_rows
from deploy.results.results import load
from deploy.studies.methods.page import study_page
from deploy.studies.methods.results import Cell, Scores, StudyResults, load_results
from deploy.studies.oracle.page import oracle_page
from deploy.studies.oracle.results import CriterionRow, OracleResults
from pruners.plan import PruningPlan
from tests.test_deploy.test_ci.test_formats import reports

pytestmark = pytest.mark.browser

GOLDEN = Path(__file__).parents[2] / "golden"
STUDIES = Path(__file__).parents[3] / "docs" / "studies"
DESK, PHONE = (1280, 800), (390, 844)
"""Screens, in CSS pixels."""
EVIL = "<script>alert('x')</script><img src=http://example.com/x onerror=alert(1)>"


def simulated():
    return load(GOLDEN / "results-v1.json")


def kept(folder, name):
    """Read results of a real run."""
    file = folder / "results.json"
    file.write_bytes(lzma.decompress((GOLDEN / name).read_bytes()))
    return load(file)


def of_a_run(folder):
    """On a busy machine, with two backends that decided and one that did not."""
    return kept(folder, "run-v3/results.json.xz")


def demo(folder):
    return kept(folder, "demo-v4.json.xz")


def alone(results):
    return results.model_copy(
        update={
            "comparisons": (),
            "measurements": tuple(pair.baseline for pair in results.comparisons),
            "models": results.models[:1],
        }
    )


def wrong(results):
    pair = results.comparisons[2]
    failing = pair.candidate.model_copy(update={"failure": "error 3", "failure_kind": "WrongAnswersError"})
    return results.model_copy(
        update={"comparisons": (*results.comparisons[:2], pair.model_copy(update={"candidate": failing}))}
    )


def hostile(results):
    models = tuple(row.model_copy(update={"file": EVIL, "method": EVIL}) for row in results.models)
    skipped = (results.skipped[0].model_copy(update={"backend": EVIL, "reason": EVIL, "hint": EVIL}),)
    return results.model_copy(update={"title": EVIL, "notes": (EVIL,), "models": models, "skipped": skipped})


def study():
    """Many methods that end close to each other, at the same costs."""

    def scores(value):
        return Scores(
            score_validation=value, score_test=value, loss_validation=0.1, loss_test=0.1, n_validation=9, n_test=9
        )

    cells = [
        Cell(
            method=f"method-{index}",
            removes="channels",
            budget=f"{share} % flops",
            recovery="fine-tuned",
            from_scratch=False,
            seed=0,
            key="key",
            folder="jobs/recover-key",
            plan_folder="jobs/prune-key",
            outcome="ok",
            dense=scores(0.98),
            pruned=scores(0.5),
            recovered=scores(0.9 + 0.001 * index),
            macs=(1000, 10 * share),
            params=(1000, 10 * share),
        )
        for index in range(12)
        for share in (25, 50)
    ]
    return StudyResults(name="made", recipe={}, split="The split.", cells=tuple(cells))


def oracle():
    """Criteria that agree, that disagree, and one that has nothing to rank."""
    found = {"taylor": 0.66, "fpgm": -0.41, "apoz": None}
    rows = tuple(
        CriterionRow(
            criterion=name,
            paper="p",
            per_group={},
            per_layer=value,
            overall=value and value / 2,
            overall_l2=value,
            seconds=0.5,
            left_out={"b": "it has no BatchNorm"} if value is None else {},
        )
        for name, value in found.items()
    )
    return OracleResults(
        name="n",
        network={},
        data="digits",
        split="train",
        n_examples=8,
        batch_size=4,
        seed=0,
        score=0.5,
        loss=1.0,
        seconds=1.0,
        losses={"a": (0.1, 0.2), "b": (0.3, -0.1)},
        rows=rows,
        tool_version="0",
    )


def plan():
    found = PruningPlan.load(GOLDEN / "run-v3" / "pruned" / "plan.json")
    return plan_page(found, group_rows(found), [], "Plan plan.json", "taylor removes channels")


def layers_of(results):
    """Layers of both models of results; what was profiled is one model."""
    [kept] = load_record(GOLDEN / "layers-1.json", LayerReport, "layers").profiles
    named = [kept.subject.model_copy(update={"label": row.label, "sha256": row.sha256}) for row in results.models]
    dense, pruned = (kept.model_copy(update={"subject": subject}) for subject in named)
    return LayerReport(profiles=(kept,), comparisons=(compare_layers(pruned, dense),))


def loads():
    lines = (GOLDEN / "load-1.jsonl").read_text(encoding="utf-8").splitlines()
    return [LoadMeasurement.model_validate_json(line) for line in lines]


def checked():
    """A check of two models, with one row of each verdict."""
    return reports.report(*reports.MIXED.rows, results={"classifier": simulated(), "detector": simulated()})


PAGES = {
    "a pair": lambda folder: page(simulated()),
    "a run": lambda folder: page(of_a_run(folder)),
    "the demo": lambda folder: page(demo(folder)),
    "a single model": lambda folder: page(alone(simulated())),
    "wrong answers": lambda folder: page(wrong(simulated()), layers_of(simulated())),
    "layers": lambda folder: layer_page(layers_of(simulated())),
    "load": lambda folder: load_page(loads()),
    "explain": lambda folder: explanation_page(load_record(GOLDEN / "explanation-1.json", Explanation, "explanation")),
    "oracle": lambda folder: oracle_page(oracle()),
    "plan": lambda folder: plan(),
    "a study": lambda folder: study_page(study()),
    "a check": lambda folder: check_page(checked()),
}


@pytest.mark.parametrize("name", ["a pair", "a run", "the demo", "a single model", "wrong answers"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_first_screen_holds_the_answer(opened, tmp_path, name, size):
    with opened(PAGES[name](tmp_path), size) as tab:
        first = (".tile", ".bars:not(.slim)", ".bars:not(.slim) li", ".badge")
        for selector in (*first, *([".banner"] if name == "wrong answers" else [])):
            boxes = tab.boxes(selector)
            assert boxes, selector
            for box in boxes:
                assert 0 <= box["left"] < box["right"] <= size[0], selector
                assert 0 <= box["top"] < box["bottom"] <= size[1], selector
        tiles = tab.boxes(".tile")
        assert len(tiles) == 4
        for index, one in enumerate(tiles):
            for other in tiles[:index]:
                beside = one["left"] >= other["right"] or one["top"] >= other["bottom"]
                assert beside, "no tile covers another"
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], "only wide tables scroll sideways, by themselves"
        assert tab.asked == [tab.url]


def test_the_numbers_are_those_of_the_file(opened):
    document = json.loads((GOLDEN / "results-v1.json").read_text(encoding="utf-8"))
    measured = [pair["speedup"] for pair in document["comparisons"]]
    dense, pruned = document["models"]
    with opened(page(simulated())) as tab:
        rows, tiles = tab.words(".bars li .value"), tab.words(".tile .number")
        for told, speedup in zip(rows, measured, strict=False):
            if speedup is not None:
                numbers = (speedup["value"], speedup["low"], speedup["high"])
                assert told.startswith("{:.2f}x [{:.2f}, {:.2f}]".format(*numbers))
        assert tiles[0] == rows[0].rpartition(" ")[0]
        assert (
            tiles[1] == f"{100 * dense['accuracy_test']:.2f} \N{RIGHTWARDS ARROW} {100 * pruned['accuracy_test']:.2f} %"
        )
        sizes = dense["file_bytes"] / 2**20, pruned["file_bytes"] / 2**10
        assert tiles[2] == "{:.2f} MiB \N{RIGHTWARDS ARROW} {:.0f} KiB".format(*sizes)
        peaks = [
            max(trial["memory"]["peak_bytes"] for trial in document["comparisons"][0][side]["trials"]) / 2**20
            for side in ("baseline", "candidate")
        ]
        assert tiles[3] == "{:.1f} \N{RIGHTWARDS ARROW} {:.1f} MiB".format(*peaks)


def test_bars_are_as_long_as_the_numbers_say(opened):
    results = simulated()
    with opened(page(results)) as tab:
        aims, values = tab.boxes(".bars rect.aim"), tab.boxes(".bars rect.amount")
        whiskers = [box for box in tab.boxes(".bars line.whisker") if box["width"] > 1]
        pairs = [pair for pair in results.comparisons if pair.speedup is not None]
        for aim, value, whisker, pair in zip(aims, values, whiskers, pairs, strict=True):
            unit = aim["width"] / (pair.flop_ratio - 1)
            assert value["width"] == pytest.approx(unit * abs(pair.speedup.value - 1), abs=1)
            start = value["left"] if pair.speedup.value > 1 else value["right"]
            assert start == pytest.approx(aim["left"], abs=1)
            assert whisker["left"] == pytest.approx(start + unit * (pair.speedup.low - 1), abs=1.5)
            assert whisker["right"] == pytest.approx(start + unit * (pair.speedup.high - 1), abs=1.5)
        assert aims[0]["left"] == pytest.approx(aims[1]["left"]), "all backends share a scale"


def test_bars_of_groups_are_as_long_as_the_file_says(opened, tmp_path):
    results = demo(tmp_path)
    groups = results.models[1].pruning.groups
    with opened(page(results)) as tab:
        assert tab.words(".slim .name") == [group.name for group in groups]
        assert tab.words(".slim .value") == [f"{group.kept} of {group.of}" for group in groups]
        drawn = zip(tab.boxes(".slim rect.aim"), tab.boxes(".slim rect.amount"), groups, strict=True)
        for whole, kept, group in drawn:
            assert kept["width"] == pytest.approx(whole["width"] * group.kept / group.of, abs=1)


@pytest.mark.parametrize(
    "name",
    [
        "wrong answers",
        "layers",
        "explain",
        "plan",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("load", "oracle", "a study", "a check")),
    ],
)
def test_every_page_suits_everybody(opened, tmp_path, name):
    """It fits both screens, its answer stands on the first, axe finds nothing, and nothing is asked for."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here: make browser installs it")
    with opened(PAGES[name](tmp_path), PHONE, scripts=True) as tab:
        for size in (PHONE, DESK):
            tab.page.set_viewport_size({"width": size[0], "height": size[1]})
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
            first = tab.boxes(".tile, .answer, .bars li")[0]
            assert 0 < first["top"] < first["bottom"] <= size[1]
        tab.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = axe.Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
        if name in ("wrong answers", "a study", "a check"):  # all colours of all pages
            tab.page.emulate_media(color_scheme="dark")
            dark = {"runOnly": ["color-contrast"]}
            found += axe.Axe().run(tab.page, options=dark).response["violations"]
        assert not found, [(one["id"], one["help"], one["nodes"][0]["html"]) for one in found]
        assert tab.complaints == []
        assert tab.asked == [tab.url]


def published(folder):
    """The study of docs/studies/fashion-mnist.md."""
    file = folder / "study.json"
    file.write_bytes(lzma.decompress((STUDIES / "fashion-mnist" / "study.json.xz").read_bytes()))
    return load_results(file)


@pytest.mark.parametrize(("make", "n_labels"), [(lambda _: study(), [25]), (published, [29, 29, 29])])
def test_labels_of_a_study_stand_apart(opened, tmp_path, make, n_labels):
    with opened(study_page(make(tmp_path))) as tab:
        pictures = tab.page.locator("svg.pareto").all()
        assert len(pictures) == len(n_labels)
        for picture, n in zip(pictures, n_labels, strict=True):
            # In units of the picture, without the ring of paper around each letter.
            inked = "found => found.map(one => one.getBBox()).map(({x, y, width, height}) => ({x, y, width, height}))"
            boxes = picture.locator(".number").evaluate_all(inked)
            assert len(boxes) == n
            for place, one in enumerate(boxes):
                for other in boxes[:place]:
                    gap = max(one["x"] - other["x"] - other["width"], other["x"] - one["x"] - one["width"])
                    rows = abs(one["y"] + one["height"] / 2 - other["y"] - other["height"] / 2)
                    assert gap > 1 or rows > 0.8 * one["height"], "the ink of a digit is lower than its line"


def test_the_keyboard_opens_what_is_folded(opened):
    with opened(page(simulated())) as tab:
        folded = ".badge li, details table"
        assert not any(tab.shown(folded))
        for _ in range(2 * tab.page.locator("summary").count() + 5):
            tab.page.keyboard.press("Tab")
            if tab.page.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
                tab.page.keyboard.press("Enter")
        assert all(tab.shown(folded))


def test_print_shows_all_of_it_on_white(opened, tmp_path):
    with opened(page(of_a_run(tmp_path)), (720, 1000), dark=True) as tab:
        assert not all(tab.shown("table"))
        tab.page.emulate_media(media="print", color_scheme="dark")
        assert all(tab.shown("table"))
        assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 720


def test_the_pictures_of_the_docs_are_made_from_recorded_results(chromium, tmp_path):
    tool = runpy.run_path(str(GOLDEN.parents[1] / "tools" / "screenshots.py"))
    results = tool["recorded"](tool["RECORDED"], tmp_path)
    assert results == demo(tmp_path)
    made = tool["write_pictures"](chromium, results, tmp_path / "images")
    assert {one.name for one in made} == {one.name for one in tool["IMAGES"].iterdir()}
    for picture in (*made, *tool["IMAGES"].iterdir()):
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert 10_000 < picture.stat().st_size < 200_000


def test_markup_from_outside_does_nothing(opened):
    with opened(page(hostile(simulated())), scripts=True) as tab:
        assert tab.complaints == []
        assert tab.asked == [tab.url]
        assert tab.page.locator("script, img").count() == 0
        assert EVIL in tab.words("h1")[0]
