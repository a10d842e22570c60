"""Networks that come back as a graph, and wrapped ones, go from a recipe to ONNX files that take any batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deploy.bundles.bundle import read_bundle
from deploy.bundles.rebuild import load_network
from deploy.exporting.agreement import compare_with_torch
from deploy.results.results import load

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.grid = None
        self.a, self.b, self.c = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16 * 49, 64), nn.Linear(64, 10)

    def forward(self, images):
        if self.grid is None:  # kept from the first call: training comes before pruning
            self.grid = torch.linspace(0.5, 1, 7)
        x = F.adaptive_avg_pool2d(torch.relu(self.a(images)), 7) * self.grid
        return self.c(torch.relu(self.b(x.view(-1, 16 * 49))))  # a size in the code

def baked(num_classes=10):
    return Net()

class Plain(Net):
    def forward(self, images):
        return self.c(torch.relu(self.b(F.adaptive_avg_pool2d(torch.relu(self.a(images)), 7).flatten(1))))

def wrapped(num_classes=10):
    return nn.DataParallel(Plain())
"""
RECIPE = """
name: tiny
network: {name: "%s"}
data: {name: digits, limit: 100, image_size: 16}
train: {epochs: 1, batch_size: 32, lr: 0.1}
prune: {method: l1, target: {flops: %s}}
finetune: {epochs: 1, batch_size: 32, lr: 0.02}
bench: {backends: [ort], threads: 1, trials: 2, budget_s: 0.2}
"""


@pytest.mark.parametrize(
    ("network", "share", "form"),
    [("baked", 0.25, "graph"), ("wrapped", 0.5, "module")],
)
@pytest.mark.slow
def test_the_files_take_any_batch(tmp_path, network, share, form):
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "recipe.yaml").write_text(RECIPE % (f"{tmp_path}/network.py:{network}", share))
    command = [sys.executable, "-m", "deploy", "run", "recipe.yaml", "--output", "run", "--accept-unfit"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 3), ended.stderr
    assert load(tmp_path / "run" / "results.json").models[1].cost.macs > 0
    for label in ("dense", "pruned"):
        bundle = read_bundle(tmp_path / "run" / "export" / label)
        assert [spec.shape[0] for spec in (*bundle.manifest.inputs, *bundle.manifest.outputs)] == ["batch", "batch"]
        assert bundle.manifest.inputs[0].name == "images"
        model = load_network(bundle, trust_code=True)  # made anew: it has never run
        for backend in ("ort", "openvino"):  # five examples at once, and one by one
            assert compare_with_torch(bundle.model, model, (torch.rand(5, 1, 16, 16),), backend=backend).ok
    assert bundle.pruning.proof.form == form
