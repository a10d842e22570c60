"""Methods that remove in steps go on where they were killed, and end in the same network bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from shutil import copytree

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from pruners.errors import MethodError
from pruners.recover.batches import EndlessBatches
from pruners.recover.settings import TrainSettings
from pruners.recover.steps import train_steps
from pruners.registry import create
from pruners.removals import RemovalFolder
from pruners.target import Constraints, Target
from pruners.task import Stream
from pruners.testing import make_network, make_task

STEPWISE = {
    "taylor": {"steps": 3, "batches_per_step": 2, "updates_between": 3},
    "criterion": {"criterion": "apoz", "steps": 3, "batches_per_step": 2, "updates_between": 3},
    "thinet": {"images": 16, "positions": 4, "updates_between": 3},
}


class KilledError(Exception):
    pass


class DiesAfter(RemovalFolder):
    """Keeps so many steps, then ends as a killed process would."""

    steps = 1

    def keep(self, key, removals):
        super().keep(key, removals)
        self.steps -= 1
        if not self.steps:
            raise KilledError


def batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(8, 3, 8, 8, generator=generator), torch.randint(0, 5, (8,), generator=generator)


def task(folder=None, *, network="plain", kind=RemovalFolder, **changes):
    """A task whose trainings go on through one stream of batches, as those of a run do."""
    updates = Stream(batches(seed=1))

    def train(model, n_updates):
        train_steps(model, updates, F.cross_entropy, n_updates=n_updates, lr=0.01)

    keeper = None if folder is None else kind(folder, {"updates": updates})
    return make_task(make_network(network), train=train, batches=batches, keeper=keeper, **changes)


def same(first, second):
    assert first.plan == second.plan
    assert first.history == second.history
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("method", "network", "steps"),
    [
        ("taylor", "plain", 1),
        ("taylor", "plain", 2),
        ("criterion", "plain", 1),
        *(
            pytest.param(method, "residual", steps, marks=pytest.mark.slow)
            for method, steps in (
                ("taylor", 1),
                ("taylor", 2),
                ("criterion", 1),
                ("criterion", 2),
                ("thinet", 1),
                ("thinet", 2),
            )
        ),
    ],
)
def test_killed_between_removals_it_ends_in_the_same_network(tmp_path, method, network, steps):
    whole = create(method, **STEPWISE[method]).prune(task(network=network))
    killed = task(tmp_path, network=network, kind=DiesAfter)
    killed.keeper.steps = steps
    with pytest.raises(KilledError):
        create(method, **STEPWISE[method]).prune(killed)
    told = []
    again = task(tmp_path, network=network, progress=lambda message, done: told.append(message))
    same(create(method, **STEPWISE[method]).prune(again), whole)
    assert len(told) == len(whole.history) - steps  # it did not begin again


@pytest.mark.slow
def test_a_schedule_by_units_goes_on(tmp_path):
    settings = {"units_per_step": 2, "batches_per_step": 1, "updates_between": 1}
    whole = create("taylor", **settings).prune(task())
    killed = task(tmp_path, kind=DiesAfter)
    killed.keeper.steps = 3
    with pytest.raises(KilledError):
        create("taylor", **settings).prune(killed)
    same(create("taylor", **settings).prune(task(tmp_path)), whole)


def test_only_the_last_step_is_kept(tmp_path):
    create("taylor", **STEPWISE["taylor"]).prune(task(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["000003"]


def test_a_kill_while_a_step_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    killed = task(tmp_path, kind=DiesAfter)
    with pytest.raises(KilledError):
        create("taylor", **STEPWISE["taylor"]).prune(killed)

    def half(module, path):
        path.write_bytes(b"half")
        raise KilledError

    monkeypatch.setattr("pruners.removals.save_weights", half)
    with pytest.raises(KilledError):
        create("taylor", **STEPWISE["taylor"]).prune(task(tmp_path))
    monkeypatch.undo()
    same(
        create("taylor", **STEPWISE["taylor"]).prune(task(tmp_path)),
        create("taylor", **STEPWISE["taylor"]).prune(task()),
    )


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed") / "kept"
    with pytest.raises(KilledError):
        create("taylor", **STEPWISE["taylor"]).prune(task(folder, kind=DiesAfter))
    return folder


@pytest.fixture
def kept(killed_once, tmp_path):
    return copytree(killed_once, tmp_path / "kept")


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"updates_between": 4}, {}),
        ({}, {"seed": 1}),
        ({}, {"target": Target(of="flops", kept_fraction=0.7)}),
        ({}, {"network": "residual"}),
    ],
    ids=["settings", "seed", "target", "network"],
)
def test_what_another_pruning_kept_is_refused(kept, settings, changes):
    with pytest.raises(MethodError, match="of another pruning"):
        create("taylor", **{**STEPWISE["taylor"], **settings}).prune(task(kept, **changes))


@pytest.mark.parametrize("name", ["plan.json", "weights.safetensors", "rest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_what_is_damaged_is_named(kept, name, damage):
    file = kept / "000001" / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(MethodError, match=r"is broken.*to start over"):
        create("taylor", **STEPWISE["taylor"]).prune(task(kept))


def test_a_run_that_never_began_finds_nothing(tmp_path):
    assert RemovalFolder(tmp_path / "none").last("key", task()) is None


def test_a_stream_counts_and_skips():
    stream = Stream(batches())
    third = [next(stream) for _ in range(3)][2]
    other = Stream(batches())
    other.skip_to(2)
    assert other.drawn == 2
    assert torch.equal(next(other)[0], third[0])
    with pytest.raises(MethodError, match="is at 3 and should go on at 1"):
        other.skip_to(1)


def test_a_stream_skips_without_loading_where_it_can():
    data = TensorDataset(torch.arange(10.0).reshape(10, 1), torch.arange(10))
    whole, other = (Stream(EndlessBatches(data, batch_size=3, seed=1)) for _ in range(2))
    seventh = [next(whole) for _ in range(8)][7]  # of the third epoch
    other.skip_to(7)
    assert torch.equal(next(other)[0], seventh[0])
    assert other.drawn == 8


def test_steps_that_follow_soon_are_not_kept(tmp_path):
    slow = task(tmp_path)
    create("taylor", **STEPWISE["taylor"]).prune(
        replace(slow, keeper=RemovalFolder(tmp_path / "soon", {}, every_s=3600))
    )
    assert not (tmp_path / "soon").exists()


def test_slimming_in_passes_goes_on(tmp_path):
    training = TrainSettings(epochs=1, batch_size=8, lr=0.05)
    settings = {"passes": 2, "start": "scratch", "training": training.model_dump(), "strength": 1e-3}
    changes = {"constraints": Constraints(), "target": Target(of="flops", kept_fraction=0.6)}
    whole = create("slimming", **settings).prune(task(**changes))
    with pytest.raises(KilledError):
        create("slimming", **settings).prune(task(tmp_path, kind=DiesAfter, **changes))
    same(create("slimming", **settings).prune(task(tmp_path, **changes)), whole)


def test_where_it_stands_is_json_and_no_pickle(kept):
    rest = json.loads((kept / "000001" / "rest.json").read_text())
    assert rest["drawn"] == 2
    assert rest["streams"] == {"updates": 3}
    assert {path.suffix for path in (kept / "000001").iterdir()} == {".json", ".safetensors"}


def test_without_training_between_layers_nothing_is_kept(tmp_path):
    made = replace(task(tmp_path), train=None)
    create("thinet", images=16, positions=4, updates_between=0).prune(made)
    assert not list(tmp_path.iterdir())
