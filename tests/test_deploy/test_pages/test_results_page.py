"""The page of results, without a browser: layers, shared axes, and one count of the signs of noise."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.errors import NotComparableError
from benchmarks.layers.comparison import LayerReport, compare_layers
from benchmarks.records.file import load as load_record
from deploy.report.answer.deriving import answer_of
from deploy.report.page import page
from deploy.report.tables import tables_by_name
from deploy.report.terminal import print_results
from deploy.results.results import load

GOLDEN = Path(__file__).parents[2] / "golden"
HOW = "deploy layers export/pruned --against export/dense --backend ort --precision fp32 --threads 2"


@pytest.fixture
def results():
    return load(GOLDEN / "results-v1.json")


@pytest.fixture
def layers(results):
    """The layers of the two models: those of the pruned one take half of the time."""
    [kept] = load_record(GOLDEN / "layers-1.json", LayerReport, "layers").profiles
    sides = []
    for row, part in zip(results.models, (1, 2), strict=True):
        subject = kept.subject.model_copy(update={"label": row.label, "sha256": row.sha256})
        rows = [one.model_copy(update={"time_ns": one.time_ns and one.time_ns // part}) for one in kept.rows]
        sides.append(kept.model_copy(update={"subject": subject, "rows": tuple(rows)}))
    return LayerReport(comparisons=(compare_layers(sides[1], sides[0]),))


def test_a_profiled_pair_is_on_the_page_layer_by_layer(results, layers):
    text = page(results, layers)
    assert "pruned, and pale behind it dense" in text
    assert "What each layer bought on ort" in text
    slowest = max(layers.comparisons[0].pairs, key=lambda pair: pair.baseline_ns or 0)
    assert re.search(rf'<span class="name">{re.escape(slowest.name)}</span>', text)
    assert "not profiled" not in text


def test_where_no_layer_was_profiled_the_page_says_how(results):
    text = page(results)
    assert "Layers were not profiled" in text
    assert HOW in text
    assert "--layers layers.json --page report.html" in text
    found = {"comparisons": (), "measurements": (results.comparisons[0].candidate,), "models": results.models[1:]}
    assert "not profiled" not in page(results.model_copy(update=found)), "a pair is what it is for"


def test_layers_of_other_models_are_refused(results, layers):
    strange = results.models[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(NotComparableError, match="no model of these results"):
        page(results.model_copy(update={"models": (strange, results.models[1])}), layers)
    with pytest.raises(NotComparableError, match="--against"):
        page(results, LayerReport())


def test_the_command_puts_layers_on_the_page(here, results, layers, tmp_path):
    kept, target = tmp_path / "layers.json", tmp_path / "page.html"
    kept.write_text(layers.model_dump_json(), encoding="utf-8")
    golden = GOLDEN / "results-v1.json"
    assert here("report", golden, "--layers", kept, "--page", target).returncode == 0
    assert target.read_text(encoding="utf-8") == page(results, layers)
    for wrong, words in ((["--layers", kept], "give --page"), (["--layers", golden, "--page", target], "not a layers")):
        done = here("report", golden, *wrong)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stdout == ""


def test_all_distributions_share_an_axis(results):
    pictures = re.findall(r"<svg(?:(?!</svg>).)*>Latency on (?:(?!</svg>).)*</svg>", page(results), re.DOTALL)
    assert len(pictures) == 3
    ticks = {tuple(re.findall(r'x="([\d.]+)" y="2[5-9][\d.]*"[^>]*>([\d.]+)<', one)) for one in pictures}
    assert len(ticks) == 1
    assert ticks != {()}


def test_page_and_terminal_count_the_same_signs_of_noise(results):
    doubts = ("the machine was busy", "medians of processes differ by 12 %", "only 20 timed calls: too few")
    sides = {
        side: getattr(results.comparisons[0], side).model_copy(update={"doubts": doubts})
        for side in ("baseline", "candidate")
    }
    pair = results.comparisons[0].model_copy(update=sides)
    found = results.model_copy(update={"comparisons": (pair,)})
    told = answer_of(found)
    n_signs, n_others = told.noise.signs, len(told.doubts) - told.noise.signs
    assert n_signs
    assert n_others
    stream = io.StringIO()
    print_results(found, Console(file=stream, width=120, highlight=False), verbose=True)
    signs = f"({n_signs} sign{'s' * (n_signs > 1)}"
    assert signs in stream.getvalue()
    text = page(found)
    assert signs in text
    assert f"{n_others} other caveat" in text
    assert f'<ol start="{n_signs + 1}">' in text, "numbers are those of the terminal"


def test_the_proof_stands_on_the_page_once(results):
    title = tables_by_name(results)["proof"].title
    assert page(results).count(f"<h2>{title}</h2>") == 1
