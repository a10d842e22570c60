"""A pruning in steps that was killed goes on, also where images are augmented and values are dropped at random."""

from __future__ import annotations

import pytest

from deploy.recipe import Recipe
from deploy.run import prepare, smaller, steps
from deploy.run.progress import Progress
from deploy.run.run_stages import stages_of
from deploy.run.stages import StageStore
from deploy.run.steps import StepContext
from deploy.sources.datasets.data import load
from pruners.removals import RemovalFolder

NETWORK = """
from torch import nn


def make(*, n_classes=10, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(),
        nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes),
    )
"""


class KilledError(Exception):
    pass


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    return Recipe.model_validate(
        {
            "name": "killed",
            "network": {"name": f"{tmp_path / 'net.py'}:make"},
            "data": {"name": "digits", "limit": 120, "augment": True},
            "prune": {
                "method": "taylor",
                "settings": {"steps": 3, "batches_per_step": 2, "updates_between": 5},
                "target": {"flops": 0.5},
                "batch_size": 16,
            },
        }
    )


def prune(recipe, root):
    """Prepare a run in `root`, without the steps that follow pruning."""
    stages = stages_of(recipe, StageStore(root))
    prepare.prepare(StepContext(recipe=recipe, data=load(recipe.data), progress=Progress()), stages)
    return stages.prune.folder


@pytest.fixture(autouse=True)
def _nothing_follows(monkeypatch):
    monkeypatch.setattr(smaller, "finetune", lambda context, folder, **places: None)
    monkeypatch.setattr(prepare, "_export", lambda *places: None)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_between_removals_it_ends_in_the_same_network(recipe, tmp_path, monkeypatch, step):
    whole = prune(recipe, tmp_path / "whole")
    monkeypatch.setattr(steps, "_KEEP_EVERY_S", 0.0)
    keep = RemovalFolder.keep

    def dies(self, key, removals):
        keep(self, key, removals)
        if len(removals.history) == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(RemovalFolder, "keep", dies)
        with pytest.raises(KilledError):
            prune(recipe, tmp_path / "killed")
    killed = prune(recipe, tmp_path / "killed")
    for name in ("plan.json", "weights.safetensors", "pruned.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_what_was_kept_goes_when_the_step_is_done(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_KEEP_EVERY_S", 0.0)
    assert (prune(recipe, tmp_path / "run") / "done.json").is_file()
    assert not list((tmp_path / "run").rglob("removals"))
