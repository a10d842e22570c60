"""Training: exact resume, schedules in closed form, and mistakes told in one line."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import TensorDataset

from pruners.errors import TrainingError
from pruners.recover.batches import epoch_batches, ordered_batches
from pruners.recover.evaluate import evaluate
from pruners.recover.fit import fit
from pruners.recover.schedule import learning_rate
from pruners.recover.settings import TrainSettings
from pruners.recover.steps import train_steps

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.set_float32_matmul_precision.*")
ROOT = Path(__file__).parents[3]


def problem(n: int = 256, seed: int = 0) -> TensorDataset:
    """Two classes that the mean of the image tells apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (n,), generator=generator)
    images = torch.randn(n, 1, 6, 6, generator=generator) + (2.0 * labels - 1).reshape(-1, 1, 1, 1)
    return TensorDataset(images, labels)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"epochs": 4, "batch_size": 32, "lr": 0.05, **changes})


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.rounding
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "lr": 0.01},
        {"schedule": "step", "milestones": [2, 3]},
        {"schedule": "constant", "nesterov": False, "momentum": 0.0},
        {"label_smoothing": 0.1, "clip_norm": 1.0, "warmup_epochs": 1},
        {"channels_last": True},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_learns_the_problem(changes):
    model = network()
    history = fit(model, problem(), problem(128, seed=1), settings(**changes))
    assert history.epochs[-1].validation_score > 0.95
    assert [row.epoch for row in history.epochs] == [1, 2, 3, 4]
    assert evaluate(model, problem(128, seed=1)).score == pytest.approx(history.epochs[-1].validation_score)


def test_same_seed_gives_the_same_weights_and_another_seed_others():
    results = []
    for seed in (0, 0, 1):
        model = network()
        fit(model, problem(), None, settings(seed=seed))
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_the_callers_random_state_is_left_alone():
    model = network()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, problem(64), None, settings(epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch_it_ends_in_the_same_weights(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        import torch
        from pruners.recover.fit import fit
        from test_recover import network, problem, settings

        class Killer:
            seen = 0
            def step(self, epoch, step, steps, loss):
                if epoch == 3 and sys.argv[3] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
            def epoch(self, row):
                pass

        model = network()
        fit(model, problem(512), None, settings(), checkpoints=Path(sys.argv[1]), progress=Killer())
        torch.save(model.state_dict(), Path(sys.argv[1]) / "final.pt")
        """
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}

    def start(folder: Path, mode: str) -> int:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", script, str(folder), str(Path(__file__).parent), mode]
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode

    assert start(tmp_path / "killed", "kill") == -signal.SIGKILL
    assert not (tmp_path / "killed" / "final.pt").exists()
    assert start(tmp_path / "killed", "go on") == 0
    assert start(tmp_path / "whole", "go on") == 0
    left, right = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("killed", "whole"))
    assert same(list(left.values()), list(right.values()))


def test_finished_training_is_not_repeated(tmp_path):
    model = network()
    first = fit(model, problem(), None, settings(), checkpoints=tmp_path)
    again = network()
    second = fit(again, problem(), None, settings(), checkpoints=tmp_path)
    assert second == first
    assert same(weights(model), weights(again))


@pytest.mark.rounding
def test_best_keeps_the_epoch_of_the_best_validation_accuracy(tmp_path):
    model = network()
    history = fit(model, problem(), problem(64, seed=2), settings(keep="best", lr=0.3), checkpoints=tmp_path)
    accuracies = [row.validation_score for row in history.epochs]
    assert history.kept_epoch == accuracies.index(max(accuracies)) + 1
    assert evaluate(model, problem(64, seed=2)).score == pytest.approx(max(accuracies))
    with pytest.raises(TrainingError, match="needs validation data"):
        fit(network(), problem(), None, settings(keep="best"))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"lr": 0.2}, "another settings"), ({"epochs": 9}, "another settings")],
)
def test_checkpoint_of_other_settings_is_refused(tmp_path, change, said):
    fit(network(), problem(), None, settings(epochs=2), checkpoints=tmp_path)
    with pytest.raises(TrainingError, match=said):
        fit(network(), problem(), None, settings(**{"epochs": 2, **change}), checkpoints=tmp_path)


def test_checkpoint_of_another_network_or_other_data_is_refused(tmp_path):
    fit(network(), problem(), None, settings(epochs=1), checkpoints=tmp_path)
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with pytest.raises(TrainingError, match="another network"):
        fit(other, problem(), None, settings(epochs=1), checkpoints=tmp_path)
    with pytest.raises(TrainingError, match="another number of examples"):
        fit(network(), problem(128), None, settings(epochs=1), checkpoints=tmp_path)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_broken_checkpoint_is_refused(tmp_path, damage):
    fit(network(), problem(), None, settings(epochs=1), checkpoints=tmp_path)
    file = tmp_path / "last.pt"
    file.write_bytes(file.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(TrainingError, match="is broken"):
        fit(network(), problem(), None, settings(epochs=1), checkpoints=tmp_path)


def test_loss_that_is_not_finite_is_told():
    with pytest.raises(TrainingError, match="lower lr"):
        fit(network(), problem(), None, settings(lr=1e30, optimizer="sgd"))
    with pytest.raises(TrainingError, match="lower lr"):
        train_steps(
            network(),
            (batch for _ in range(9) for batch in ordered_batches(problem(), batch_size=32)),
            nn.functional.cross_entropy,
            n_updates=60,
            lr=1e30,
        )


def test_modes_are_restored():
    model = network()
    model[1].eval()
    evaluate(model, problem(32))
    assert model.training
    assert not model[1].training
    model.eval()
    fit(model, problem(), None, settings(epochs=1))
    assert not model.training


def test_updates_between_removals_change_the_weights_in_place():
    model = network()
    before = weights(model)
    batches = epoch_batches(problem(), batch_size=32, seed=0, epoch=1)
    train_steps(model, batches, nn.functional.cross_entropy, n_updates=3, lr=0.01)
    assert not same(before, weights(model))
    assert all(int(value) == 3 for name, value in model.state_dict().items() if "tracked" in name)


def test_cosine_and_warm_up_follow_their_formulas():
    plan = settings(epochs=10, warmup_epochs=2, lr=0.4)
    assert [learning_rate(plan, step, 5) for step in (0, 4, 9)] == pytest.approx([0.04, 0.2, 0.4])
    for step in (10, 30, 49):
        expected = 0.4 * (1 + math.cos(math.pi * (step - 10) / 40)) / 2
        assert learning_rate(plan, step, 5) == pytest.approx(expected)


def test_step_schedule_multiplies_at_its_milestones():
    plan = settings(epochs=10, schedule="step", milestones=[5, 8], lr=1.0)
    assert [learning_rate(plan, step, 2) for step in (9, 10, 15, 16)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_an_epoch_shows_every_example_once_in_an_order_of_its_own():
    data = TensorDataset(torch.arange(100.0).reshape(100, 1), torch.arange(100))
    orders = [
        torch.cat([labels for _, labels in epoch_batches(data, batch_size=10, seed=3, epoch=epoch)])
        for epoch in (1, 1, 2)
    ]
    assert sorted(orders[0].tolist()) == list(range(100))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_ranks_share_a_batch():
    data = TensorDataset(torch.arange(64.0).reshape(64, 1), torch.arange(64))
    whole = [set(labels.tolist()) for _, labels in epoch_batches(data, batch_size=16, seed=0, epoch=1)]
    parts = [
        [
            set(labels.tolist())
            for _, labels in epoch_batches(data, batch_size=16, seed=0, epoch=1, rank=rank, world_size=2)
        ]
        for rank in (0, 1)
    ]
    assert whole == [left | right for left, right in zip(*parts, strict=True)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"milestones": [2]},
        {"schedule": "step"},
        {"warmup_epochs": 4},
        {"lerning_rate": 1},
        {"momentum": 0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        settings(**wrong)
