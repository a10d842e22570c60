"""A recipe that asks for a speed: read, run, and refused before anything long starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.subject.subject import content_sha256
from benchmarks.tables.table import LatencyTable
from deploy.errors import RecipeError
from deploy.recipe import load_recipe
from deploy.results.results import load
from deploy.run.prepare import refuse_early
from deploy.run.speed_tables import require_speeds
from pruners.errors import MethodError, TargetError

ROOT = Path(__file__).parents[3]
RECIPE = """
name: tiny
network: {name: "cifar:resnet20"}
data: {name: digits, image_size: 16}
train: {epochs: 1, batch_size: 64, lr: 0.05}
prune:
  method: l1
  target: {TARGET}
bench: {backends: [ort], threads: 1, trials: 2, budget_s: 0.2}
"""


def _recipe(tmp_path, target, more=""):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("{TARGET}", target) + more, encoding="utf-8")
    return path


def test_a_recipe_asks_for_a_speed(tmp_path):
    spec = load_recipe(_recipe(tmp_path, "{speed_up: 2.0, on: ort, threads: 1}")).prune.target
    assert (spec.is_speed, spec.speed_up, spec.on, spec.threads) == (True, 2.0, "ort", 1)
    both = load_recipe(_recipe(tmp_path, "[{speed_up: 2, on: ort}, {latency_ms: 8, on: openvino}]")).prune
    assert [(target.on, target.speed_up, target.latency_ms) for target in both.targets] == [
        ("ort", 2, None),
        ("openvino", None, 8),
    ]
    assert both.multiple_of == "auto"
    section = load_recipe(_recipe(tmp_path, "{latency_ms: 8}")).prune
    assert (section.target.latency_ms, section.multiple_of) == (8, "auto")
    assert section.constraints(16).multiple_of == 16
    assert load_recipe(_recipe(tmp_path, "{flops: 0.5}")).prune.multiple_of == 1
    for wrong, message in (
        ("{speed_up: 0.9}", "greater than 1"),
        ("{speed_up: 2, flops: 0.5}", "got flops and speed_up"),
        ("{flops: 0.5, on: ort}", "belong to speed_up or latency_ms"),
        ("{flops: 0.5, tolerance: 0.02}", "belong to speed_up or latency_ms"),
        ("[{speed_up: 2, on: ort}]\n  also: [{speed_up: 2, on: openvino}]", "in the list of `target`, or the others"),
        ("{speed_up: 2, latency_ms: 8}", "got speed_up and latency_ms"),
        ("[{speed_up: 2}, {flops: 0.5}]", "only where each is a speed_up or a latency_ms"),
        ("[{speed_up: 2, on: ort}, {speed_up: 3, on: ort}]", "contradict each other, both on ort: keep one"),
        ("[{speed_up: 2, on: ort}, {speed_up: 2, on: openvino, by: flops}]", "give each the same `by`, or none"),
        ("[{speed_up: 2, on: ort, by: flops}, {speed_up: 2, on: openvino}]", "give each the same `by`, or none"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_recipe(_recipe(tmp_path, wrong))


def _run(tmp_path, target, more=""):
    command = [sys.executable, "-m", "deploy", "run", str(_recipe(tmp_path, target, more)), "--accept-unfit"]
    command += ["--output", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_prunes_to_a_speed(tmp_path):
    ended = _run(tmp_path, "{speed_up: 1.2}", more="export: {opset: 18}")
    assert ended.returncode in (0, 3), ended.stderr
    assert load(tmp_path / "run" / "results.json").models[1].cost is not None
    (facts,) = (tmp_path / "run").rglob("pruned.json")
    assert json.loads(facts.read_text(encoding="utf-8"))["landing"].startswith("asked for 1.20x the speed")
    table = LatencyTable.load(facts.parent / "table" / "latency-table.json")
    dense = tmp_path / "run" / "export" / "dense" / "model.onnx"
    assert table.key.model_sha256 == content_sha256(dense)  # so `deploy explain` finds the table by the file


@pytest.mark.slow
def test_a_latency_that_the_dense_network_has_is_refused(tmp_path):
    ended = _run(tmp_path, "{latency_ms: 1000}")
    assert ended.returncode == 2
    assert "1000 ms are met without pruning" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_speeds_that_contradict_each_other_are_refused_before_training(tmp_path):
    """The default backend and the default threads are those that the second target names."""
    recipe = load_recipe(_recipe(tmp_path, "[{speed_up: 2}, {latency_ms: 8, on: ort, threads: 1}]"))
    with pytest.raises(TargetError, match=r"speed_up 2 and latency_ms 8 on ort, threads 1; keep one"):
        require_speeds(recipe)
    require_speeds(load_recipe(_recipe(tmp_path, "[{speed_up: 2}, {latency_ms: 8, on: ort, threads: 2}]")))


def test_a_backend_without_a_profiler_is_refused_before_training(tmp_path):
    with pytest.raises(TargetError, match=r"'torch-compile'.*, so no latency table can be made"):
        require_speeds(load_recipe(_recipe(tmp_path, "{speed_up: 2, on: torch-compile}")))


@pytest.mark.parametrize("method", ["magnitude", "lottery"])
def test_a_method_that_makes_no_network_faster_is_refused_before_training(tmp_path, method):
    text = RECIPE.replace("{TARGET}", "{speed_up: 2}").replace("method: l1", f"method: {method}")
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(MethodError, match=f"^method '{method}' sets single weights to zero, which makes no network"):
        refuse_early(load_recipe(tmp_path / "recipe.yaml"))


def test_a_speed_met_by_a_cost_with_a_method_that_trains_is_refused_before_training(monkeypatch, tmp_path):
    from deploy.run import prepare

    monkeypatch.setattr(prepare, "require_backends", lambda names, device: None)
    text = RECIPE.replace("{TARGET}", "{speed_up: 2, by: flops}")
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    prepare.refuse_early(load_recipe(path))
    path.write_text(text.replace("method: l1", "method: taylor"), encoding="utf-8")
    with pytest.raises(
        MethodError, match=r"^method 'taylor' trains .* met by flops takes up to ten prunings: leave .*$"
    ):
        prepare.refuse_early(load_recipe(path))
    still = "method: taylor\n  settings: {updates_between: 0}"
    path.write_text(text.replace("method: l1", still), encoding="utf-8")
    prepare.refuse_early(load_recipe(path))


def test_a_backend_that_is_not_there_is_refused_before_training(monkeypatch, tmp_path):
    from deploy.run import prepare

    asked = []
    monkeypatch.setattr(prepare, "require_backends", lambda names, device: asked.append((names, device)))
    prepare.refuse_early(load_recipe(_recipe(tmp_path, "{speed_up: 2, on: openvino}")))
    assert asked == [(["openvino"], None)]
