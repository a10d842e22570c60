"""``deploy run`` with flags in the place of a recipe, and ``deploy init``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional

from deploy.cli import init as init_command
from deploy.cli import run as run_command
from deploy.exit_codes import run_code
from deploy.recipe import load_recipe
from deploy.results.results import Results, load
from deploy.run import look
from deploy.run.stages import StageStore
from deploy.sources.factory import call_factory

GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"
OWN = ("--network", "own_net.py:build", "--data", "imagefolder:photos")


SIDE = 32
IMAGES = 300
EPOCHS = 6
SOURCE = '''"""A network of one's own."""

from torch import nn


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            block(1, 32), block(32, 32), nn.MaxPool2d(2), block(32, 64), block(64, 64), nn.MaxPool2d(2),
            block(64, 128), block(128, 128), nn.AdaptiveAvgPool2d(1),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def build():
    return Net(10)
'''


def make(folder):
    """Write ``own_net.py``, ``own.pt`` and ``photos/CLASS/*.png``; the images are none of those that are trained on."""
    digits = load_digits()
    pixels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear")
    labels = torch.tensor(digits.target)
    (folder / "own_net.py").write_text(SOURCE)
    for index in range(IMAGES):
        place = folder / "photos" / str(int(labels[index]))
        place.mkdir(parents=True, exist_ok=True)
        grey = (images[index, 0] * 255).round().numpy().astype(np.uint8)
        Image.fromarray(grey).save(place / f"{index}.png")
    torch.manual_seed(0)
    model = call_factory(folder / "own_net.py", "build", {}, n_classes=None, input_shape=(1, SIDE, SIDE))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    train_x, train_y = images[IMAGES:], labels[IMAGES:]
    steps = EPOCHS * (len(train_x) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(train_x))
        for at in range(0, len(order) - 63, 64):
            chosen = order[at : at + 64]
            loss = functional.cross_entropy(model(train_x[chosen]), train_y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.save(model.state_dict(), folder / "own.pt")


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Write the recipe without a child and without a look: what it is asked for."""
    asked = []
    monkeypatch.chdir(tmp_path)

    def call(function, wishes, file):
        assert function == f"{look.__name__}:{look.write_own_recipe.__name__}"
        asked.append(json.loads(wishes))
        file.write_text(
            "name: own_net\nnetwork: {name: 'cifar:resnet20'}\ndata: {name: digits}\nprune: {target: {flops: 0.5}}\n"
        )

    monkeypatch.setattr(init_command, "call_in_child", call)
    monkeypatch.setattr(run_command, "call_in_child", call)
    return asked


@pytest.fixture
def runs(monkeypatch):
    """Runs that end before anything is done."""
    begun = []

    def run(recipe, store, note, tell, **choices):
        begun.append((recipe, store.root))
        raise SystemExit(0)

    monkeypatch.setattr(run_command, "run_pipeline", run)
    return begun


@pytest.mark.parametrize("command", ["run", "init"])
def test_all_that_is_missing_is_named_at_once(here, written, command):
    ended = here(command)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    for flag in ("--network", "--data", "--speed-up", "--latency-ms", "--flops", "--max-drop"):
        assert flag in ended.stderr
    assert ("give a recipe" in ended.stderr) == (command == "run")
    assert "--network" not in here(command, *OWN).stderr
    assert written == []


def test_a_crop_that_is_no_share_is_refused(here, written):
    ended = here("run", *OWN, "--flops", "0.5", "--crop", "some")
    assert (ended.returncode, ended.stderr) == (
        2,
        "deploy: --crop 'some' is neither a share, such as 0.875, nor none\n",
    )


def test_flags_become_a_recipe_in_the_folder_of_the_run(here, written, runs):
    ended = here("run", *OWN, "--weights", "own.pt", "--speed-up", "2", "--on", "ort", "--max-drop", "1", "-q")
    assert ended.returncode == 0
    assert "recipe: runs/own_net/recipe.yaml; the same again: deploy run runs/own_net/recipe.yaml\n" in ended.stderr
    (wishes,) = written
    assert {key: value for key, value in wishes.items() if value not in (None, [])} == {
        "network": "own_net.py:build",
        "weights": "own.pt",
        "data": "imagefolder:photos",
        "speed_up": 2.0,
        "on": ["ort"],
        "max_drop": 1.0,
    }
    assert runs[0][1].as_posix() == "runs/own_net"


def test_the_run_of_another_network_is_not_written_over(here, written, runs, tmp_path):
    folder = tmp_path / "runs" / "own_net"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"network": {"name": "own_net.py:other"}}))
    ended = here("run", *OWN, "--flops", "0.5")
    assert ended.returncode == 2
    assert "holds a run of another network, own_net.py:other: choose another folder with --output" in ended.stderr
    assert (written, runs) == ([], [])
    (folder / "recipe.json").write_text(json.dumps({"network": {"name": f"./{OWN[1]}"}}))
    here("run", *OWN, "--flops", "0.5")
    assert len(written) == 1


def test_the_recipe_of_a_run_at_work_is_not_written_over(here, written, runs, tmp_path):
    with StageStore(tmp_path / "runs" / "own_net").locked():
        ended = here("run", *OWN, "--flops", "0.5")
    assert ended.returncode == 2
    assert "is in use by another 'deploy run'" in ended.stderr
    assert (written, runs) == ([], [])


def test_flags_beside_a_recipe_are_written_too(here, written, runs, tmp_path):
    (tmp_path / "known.yaml").write_text(
        "name: known\nnetwork: {name: 'cifar:resnet20'}\ndata: {name: digits}\nprune: {target: {flops: 0.5}}\n"
    )
    ended = here("run", "known.yaml", "--threads", "1", "-o", "there")
    assert "deploy run there/recipe.yaml --output there\n" in ended.stderr
    assert load_recipe(tmp_path / "there" / "recipe.yaml") == runs[0][0]
    assert (runs[0][0].bench.threads, runs[0][0].name) == (1, "known")
    assert written == []


def test_a_recipe_alone_is_run_as_it_is(here, written, runs, tmp_path):
    (tmp_path / "known.yaml").write_text(
        "name: known\nnetwork: {name: 'cifar:resnet20'}\ndata: {name: digits}\nprune: {target: {flops: 0.5}}\n"
    )
    assert here("run", "known.yaml").stderr == ""
    assert not (tmp_path / "runs" / "known" / "recipe.yaml").exists()


@pytest.mark.parametrize("accepted", [False, True])
def test_the_results_of_a_run_are_json_on_stdout(here, written, monkeypatch, accepted):
    found = load(GOLDEN).model_copy(update={"recipe": {"name": "own_net"}, "accepts_unfit": accepted})
    monkeypatch.setattr(run_command, "run_pipeline", lambda *args, **choices: found)
    ended = here("run", *OWN, "--flops", "0.5", "--json", "-q")
    assert Results.model_validate_json(ended.stdout) == found
    assert ended.returncode == run_code(found)
    assert ended.stderr.startswith("recipe: ")


def test_init_writes_a_recipe_and_never_over_another_one(here, written, tmp_path):
    ended = here("init", *OWN, "--flops", "0.5")
    assert ended.stdout == "own_net.yaml: read it, then: deploy run own_net.yaml\n"
    assert load_recipe(tmp_path / "own_net.yaml").name == "own_net"
    again = here("init", *OWN, "--flops", "0.5")
    assert again.returncode == 2
    assert "own_net.yaml exists" in again.stderr
    assert len(written) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_command_prunes_ones_own_network(tmp_path):
    make(tmp_path)
    flags = ("--weights", "own.pt", "--speed-up", "2", "--on", "ort", "--max-drop", "1", "--accept-unfit")
    ended = subprocess.run(
        [sys.executable, "-m", "deploy", "run", *OWN, *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    run = tmp_path / "runs" / "own_net"
    results = load(run / "results.json")
    pruned = results.models[1]
    proof = pruned.pruning.proof
    assert proof.speeds[0].met
    assert proof.speeds[0].measured_speed_up >= 1.8
    assert proof.drop.reached
    assert proof.drop.best.drop <= 1
    assert pruned.score_test >= results.models[0].score_test - 0.01
    assert results.comparisons[0].verdict == "faster"
    assert (run / "report.html").is_file()
    assert (run / "export" / "pruned" / "model.onnx").is_file()
    assert "deploy run runs/own_net/recipe.yaml" in ended.stderr
    assert load_recipe(run / "recipe.yaml").data.normalise == "none"
