"""Two processes over gloo choose and fit on the samples of both, and end alike. This file is also their script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pruners.distributed import joined_rows, world_size
from pruners.recover.fold_bias import fold_bias
from pruners.recover.recalibrate import recalibrate
from pruners.recover.reconstruct import reconstruct
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

METHODS = {"thinet": {"images": 64, "updates_between": 0}, "regression": {"images": 64}}


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(8, 3, 8, 8, generator=generator) + seed, torch.randint(0, 5, (8,), generator=generator)


def digest(model):
    return {name: value.double().sum().item() for name, value in model.state_dict().items()}


def work(rank, folder):
    """What each process does: it has images of its own."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {"size": world_size(), "rows": joined_rows(torch.full((rank + 1, 2), float(rank))).tolist()}
    for name, settings in METHODS.items():
        task = make_task(
            make_network("plain"),
            batches=lambda: batches(rank),
            constraints=Constraints(),
            target=Target(of="ratios", ratios={"conv": 0.5, "hidden": 0.25}),
            train=None,
        )
        pruned = create(name, **settings).prune(task)
        found[name] = {"kept": pruned.plan.kept, "weights": digest(pruned.model), "rows": pruned.history[0]["rows"]}
    folded = fold_bias(task.model, pruned.model, pruned.plan, batches(rank), n_batches=4)
    found["fold_bias"] = {"weights": digest(pruned.model), "examples": folded.examples}
    result = reconstruct(task.model, pruned.model, pruned.plan, batches(rank), images=64)
    found["reconstruct"] = {"weights": digest(pruned.model), "rows": result.layers[0].rows}
    norm = nn.BatchNorm2d(3)
    recalibrate(norm, batches(rank), n_batches=4)
    found["mean"] = norm.running_mean.mean().item()
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(two_processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    two_processes(__file__, folder=folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_rows_of_all_are_joined_in_the_order_of_the_processes(two):
    assert all(one["size"] == 2 and one["rows"] == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]] for one in two)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_both_processes_choose_and_fit_alike_on_the_images_of_both(two, name):
    first, second = (one[name] for one in two)
    assert first == second
    assert first["rows"] == 64  # the first layer is read by a linear one: a row for each image of both


@pytest.mark.slow
def test_both_processes_reconstruct_alike(two):
    assert two[0]["reconstruct"] == two[1]["reconstruct"]
    assert two[0]["reconstruct"]["rows"] == 64


@pytest.mark.slow
def test_both_processes_fold_the_mean_of_both(two):
    assert two[0]["fold_bias"] == two[1]["fold_bias"]
    assert two[0]["fold_bias"]["examples"] == 64


@pytest.mark.slow
def test_statistics_are_averaged(two):
    assert two[0]["mean"] == two[1]["mean"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_one_process_gets_back_what_it_gave():
    rows = torch.ones(3, 2)
    assert joined_rows(rows) is rows
    assert world_size() == 1


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
