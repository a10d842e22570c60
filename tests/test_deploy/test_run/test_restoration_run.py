"""Images to restore, from a recipe to the answer: PSNR instead of accuracy, everything else alike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bundles.bundle import read_bundle
from deploy.bundles.rebuild import load_network
from deploy.results.results import load
from deploy.run.loss_check import require_losses
from deploy.sources.datasets.data import DataSpec
from deploy.sources.datasets.data import load as load_data
from pruners.errors import TrainingError
from pruners.recover.evaluate import evaluate
from pruners.registry import create

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
RECIPE = """
name: tiny
network: {name: "restoration:dncnn", options: {depth: 4, width: 0.125}}
data: {name: "denoising:50", image_size: 32, channels: 1, limit: 1}
train: {epochs: 1, batch_size: 64, lr: 0.002, optimizer: adamw, weight_decay: 0, loss: mse, keep: best}
prune:
  method: taylor
  target: {flops: 0.6}
  settings: {steps: 2, batches_per_step: 1, updates_between: 1}
finetune: {epochs: 1, batch_size: 64, lr: 0.002, optimizer: adamw, weight_decay: 0}
bench: {backends: [ort], threads: 1, trials: 2, budget_s: 0.2}
"""


def run(folder: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    (folder / "recipe.yaml").write_text(recipe)
    command = [sys.executable, "-m", "deploy", "run", str(folder / "recipe.yaml"), "--output", str(folder / "run")]
    command.append("--accept-unfit")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_run_on_images_ends_in_decibels(tmp_path):
    ended = run(tmp_path, RECIPE)
    assert ended.returncode in (0, 3), ended.stderr
    assert "validation PSNR " in ended.stderr
    assert re.search(r"PSNR +\d+\.\d\d -> \d+\.\d\d dB", ended.stdout)
    assert "accuracy" not in ended.stdout + ended.stderr
    results = load(tmp_path / "run" / "results.json")
    dense, pruned = results.models
    assert pruned.cost.macs <= 0.6 * dense.cost.macs
    for row in results.models:
        assert row.metric == "psnr"
        assert row.score_test is not None
        assert row.backend_scores["ort"] == pytest.approx(row.score_test, abs=0.01)
    bundle = read_bundle(tmp_path / "run" / "export" / "pruned")
    network = load_network(bundle)
    test = load_data(DataSpec(name="denoising:50", image_size=32, channels=1, limit=1)).test
    assert evaluate(network, test, metric="psnr").score == pytest.approx(bundle.manifest.scores.test, abs=0.01)


@pytest.mark.slow
def test_a_loss_that_does_not_fit_ends_the_run_before_any_training(tmp_path):
    ended = run(tmp_path, RECIPE.replace("loss: mse", "loss: cross-entropy"))
    assert ended.returncode == 2
    *_, line = ended.stderr.splitlines()  # after what is said of shares of FLOPs
    assert "loss cross-entropy does not fit targets that are images; take l1 or mse" in line


def test_the_settings_of_a_method_are_looked_at_too():
    data = DataSpec(name="denoising:50")
    settings = create("dhp", converge={"epochs": 1, "loss": "cross-entropy"}).settings
    with pytest.raises(TrainingError, match="cross-entropy does not fit"):
        require_losses(data, settings)
    require_losses(data, create("dhp").settings, None)
