"""Two processes that torchrun starts train as one does. This file is also their script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from pruners.errors import TrainingError
from pruners.gates.masks import WeightMasks
from pruners.recover.fit import fit
from pruners.recover.settings import TrainSettings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def images(n=64):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator))


def network(*, norm):
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(8) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(3, 8, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))


def train(folder, *, norm, epochs=3, batch_size=16, gated=False):
    net = network(norm=norm)
    with torch.no_grad():
        net[4].weight[:, ::2] = 0
    gate = WeightMasks.of_zeros(net) if gated else None
    settings = TrainSettings(epochs=epochs, batch_size=batch_size, lr=0.1)
    history = fit(net, images(), images(40), settings, gate=gate, checkpoints=folder / "checkpoints")
    if gate is not None:
        gate.fold()
    return net, history


def work(folder):
    """What each process does."""
    rank = os.environ["RANK"]
    try:
        train(folder, norm=False, batch_size=15)
    except TrainingError as error:
        (folder / f"refused-{rank}.txt").write_text(str(error))
    for norm in (False, True):
        gone_on = folder / f"resumed-{norm}"
        train(gone_on, norm=norm, epochs=3)
        net, history = train(gone_on, norm=norm, epochs=3)
        torch.save({"weights": net.state_dict(), "rows": history.to_json()["epochs"]}, folder / f"{norm}-{rank}.pt")
    net, _ = train(folder / "masks", norm=False, gated=True)
    torch.save(net.state_dict(), folder / f"masks-{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_train_as_one(two, tmp_path):
    theirs = torch.load(two / "False-0.pt", weights_only=True)
    ours, history = train(tmp_path, norm=False)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(theirs["weights"][name], value, rtol=1e-4, atol=1e-5)
    for their_row, row in zip(theirs["rows"], history.epochs, strict=True):
        assert their_row["train_loss"] == pytest.approx(row.train_loss, rel=1e-4)
        assert their_row["validation_score"] == pytest.approx(row.validation_score, abs=0.026)  # one image of 40


@pytest.mark.parametrize("name", ["False", "True", "masks"])
def test_all_processes_end_with_one_network_buffers_included(two, name):
    first, second = (torch.load(two / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
    first, second = (one.get("weights", one) for one in (first, second))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("norm", [False, True])
def test_all_processes_know_the_same_scores(two, norm):
    first, second = (torch.load(two / f"{norm}-{rank}.pt", weights_only=True)["rows"] for rank in (0, 1))
    assert [row["validation_score"] for row in first] == [row["validation_score"] for row in second]
    assert len(first) == 3


def test_masked_weights_stay_zero_in_all_processes(two):
    weights = torch.load(two / "masks-1.pt", weights_only=True)["4.weight"]
    assert (weights[:, ::2] == 0).all()
    assert (weights[:, 1::2] != 0).any()


def test_a_batch_that_can_not_be_shared_is_refused_by_all(two):
    for rank in (0, 1):
        assert "2 processes cannot share batches of 15 evenly" in (two / f"refused-{rank}.txt").read_text()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
    os._exit(0)  # DistributedDataParallel leaves threads of gloo behind, at which the interpreter may abort
