"""A run's results, its bundles and a journal, as they were written before the proof was part of them, are read."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.answers.reference import read_reference
from deploy.bundles.bundle import read_bundle
from deploy.bundles.rebuild import load_network
from deploy.cli.app import app
from deploy.report.page import page
from deploy.results.gather import results_of_journal
from deploy.results.results import load

GOLDEN = Path(__file__).parents[2] / "golden" / "run-v3"
PLAN = json.loads((GOLDEN / "pruned" / "plan.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("golden") / "results.json"
    file.write_bytes(lzma.decompress((GOLDEN / "results.json.xz").read_bytes()))
    return file


def test_results_are_read_unchanged(written):
    document = json.loads(written.read_bytes())
    assert document["schema_version"] == 3
    results = load(written)
    now = json.loads(results.model_dump_json())
    assert now.pop("schema_version") == 4
    for row in now["models"]:
        assert (row.pop("pruning"), row.pop("n_classes")) == (None, None), "what a file does not hold is not guessed"
        row["cost"] = {name: count for name, count in row["cost"].items() if name in document["models"][0]["cost"]}
    for name, value in document.items():
        if name not in {"schema_version", "comparisons"}:
            assert now[name] == value
    for pair, old in zip(results.comparisons, document["comparisons"], strict=True):
        for side in ("baseline", "candidate"):
            blocks = [[list(block) for block in trial.blocks_ns] for trial in getattr(pair, side).trials]
            assert blocks == [trial["blocks_ns"] for trial in old[side]["trials"]]
        assert (pair.verdict, list(pair.log_ratios)) == (old["verdict"], old["log_ratios"])


def test_a_report_is_made_of_them(written, tmp_path):
    done = CliRunner().invoke(app, ["report", str(written), "-v", "--page", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "unknown [1]" in done.output
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text == page(load(written))
    assert "did not keep the proof" in text


@pytest.mark.parametrize("label", ["dense", "pruned"])
def test_bundles_are_read_and_built_again(label):
    bundle = read_bundle(GOLDEN / label)
    assert bundle.manifest.name == label
    reference = read_reference(bundle.reference)
    network = load_network(bundle)
    with torch.no_grad():
        answers = network(*(torch.from_numpy(x) for x in reference.inputs.values()))
    (expected,) = reference.outputs.values()
    assert np.allclose(answers.numpy(), expected, atol=1e-5)


def test_an_older_bundle_counts_its_plan_and_knows_no_proof():
    assert read_bundle(GOLDEN / "dense").pruning is None
    pruning = read_bundle(GOLDEN / "pruned").pruning
    assert pruning.proof is None
    assert {group.name: group.kept for group in pruning.groups} == {
        name: len(units) for name, units in PLAN["kept"].items()
    }


def test_a_journal_is_recovered():
    results = results_of_journal(GOLDEN / "killed.json.journal")
    (pair,) = results.comparisons
    assert [side.subject.label for side in pair.sides] == ["dense", "pruned"]
    assert pair.verdict == "inconclusive"
    assert all(side.trials for side in pair.sides)
    assert page(results)
