"""``deploy layers`` as people meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.testing import small_cnn
from benchmarks.layers.comparison import LayerReport
from benchmarks.subject.cost import cost
from deploy.report.pages.tables_with_bars import layer_page

ROOT = Path(__file__).parents[4]


@pytest.fixture
def layers(tmp_path):
    def run(*arguments, columns="80"):
        command = [sys.executable, "-m", "deploy", "layers", *map(str, arguments)]
        environment = {**os.environ, "PRUNE_DEPLOY_LOCK": str(tmp_path / "lock"), "COLUMNS": columns}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300, env=environment
        )

    return run


@pytest.fixture
def model(tmp_path):
    return small_cnn(tmp_path / "cnn.onnx", batch="batch")


def refused(done, *words):
    lines = [line for line in done.stderr.splitlines() if line.startswith("deploy: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


QUICK = ("--threads", "1", "--duration", "0.2")


@pytest.mark.slow
def test_one_model_as_table_and_as_json(layers, model, tmp_path):
    target = tmp_path / "layers.json"
    done = layers(model, "--batch", "2", *QUICK, "--output", target, "--top", "0")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("Where the time of cnn goes on ort", "conv1", "gaps", "Roofline, measured through ort", "one call"):
        assert words in " ".join(done.stdout.split())
    document = json.loads(target.read_text())
    assert document["schema_version"] == 1
    [profile] = LayerReport.model_validate_json(target.read_text()).profiles
    assert profile.macs == 2 * cost(model).macs
    assert profile.subject.batch == 2
    assert sum(row.time_ns or 0 for row in profile.rows) == round(profile.latency_ns)
    assert profile.roofline.threads == 1


@pytest.mark.slow
def test_rows_are_sorted_by_time_and_few_on_request(layers, model):
    done = layers(model, *QUICK, "--top", "2")
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("What these layers do")[0]
    lines = table.splitlines()
    others = next(line for line in lines if "others" in line)
    assert lines.index(others) == 5, table  # title, columns, rule, two layers


def test_two_models(layers, model, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    target, page = tmp_path / "layers.json", tmp_path / "layers.html"
    other = small_cnn(folder / "dense.onnx", batch="batch")
    done = layers(model, "--against", other, *QUICK, "--output", target, "--page", page)
    assert done.returncode == 0, done.stderr
    assert "What each layer bought on ort" in done.stdout
    report = LayerReport.model_validate_json(target.read_text())
    assert page.read_text(encoding="utf-8") == layer_page(report)
    [pair] = report.comparisons
    assert (pair.baseline.subject.label, pair.candidate.subject.label) == ("dense", "cnn")
    assert {one.macs_ratio for one in pair.pairs if one.macs_ratio is not None} == {1.0}
    assert not [one.name for one in pair.pairs if one.name != "inserted" and not one.matched and one.baseline_macs]


def test_mistakes_are_one_line(layers, model, tmp_path, here):
    refused(here("layers", tmp_path / "none.onnx"), "none.onnx", "no such file")
    refused(here("layers", model, "--against", tmp_path / "none.onnx"), "none.onnx", "no such file")
    refused(here("layers", model, "--backend", "onnx"), "unknown backend 'onnx'")
    refused(here("layers", model, "--backend", "null"), "'null' has no layers to profile")
    refused(here("layers", model, "--duration", "0"), "duration must be positive")
    refused(here("layers", model, "--output", tmp_path / "no" / "layers.json"), "cannot write", "layers.json")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:100])
    refused(here("layers", tmp_path / "cut.onnx"), "cut.onnx", "truncated")


def test_the_baseline_is_read_before_anything_is_profiled(layers, model, tmp_path):
    done = layers(model, "--against", tmp_path / "none.onnx")
    assert "profile its layers" not in done.stderr
    done = layers(tmp_path / "none.onnx", "--against", model)
    assert "profile its layers" not in done.stderr
