"""The coverage study sees what users see: a free batch, a rebuilt network in a fresh process, a step of training."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from deploy.studies.coverage import checks, child, ours  # noqa: E402
from deploy.studies.coverage.clock import Clock  # noqa: E402
from deploy.studies.coverage.rows import CoverageJob, CoverageSettings, ListedNetwork  # noqa: E402

NETWORK = """
import torch
from torch import nn

class Free(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.b, self.o = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.o(self.b(self.n(self.a(x)).relu().mean((2, 3))).relu())

class Fixed(Free):
    def forward(self, x):  # one example after the other, and none of it can be trained
        with torch.no_grad():
            return torch.stack([super(Fixed, self).forward(x[i : i + 1])[0] * (i + 1) for i in range(x.shape[0])])
"""


@pytest.fixture
def measured(tmp_path):
    (tmp_path / "network.py").write_text(NETWORK)

    def measure(function="Free"):
        maker = f"{tmp_path}/network.py:{function}"
        entry = ListedNetwork(set="own", name="n", maker=maker, inputs=((1, 3, 8, 8),), millions=0.01)
        job = CoverageJob(entry=entry, engine="ours", settings=CoverageSettings(), source="", versions={})
        return child.measure(job, Clock(tmp_path / "events"))

    return measure


@pytest.mark.slow
def test_every_step_is_in_the_row(measured):
    row = measured()
    assert (row.outcome, row.reason) == ("ok", "")
    assert row.free_batch
    assert row.reload_error < 1e-6
    assert row.loss > 0
    assert row.beside == ()


@pytest.mark.slow
def test_what_the_unpruned_network_does_not_do_either_is_no_failure(measured):
    row = measured("Fixed")
    assert (row.outcome, row.reason) == ("ok", "")
    assert row.free_batch is False
    assert row.loss is None
    batch, training = row.beside
    assert batch.startswith("free batch: Fixed cannot be exported with a dynamic batch")
    assert training == "training step: no output depends on a weight"


@pytest.mark.slow
def test_a_network_that_alone_loses_its_free_batch_is_refused(measured, monkeypatch):
    def careless(*args, **kwargs):
        compact = ours.prune(*args, **kwargs)
        forward = compact.forward
        compact.forward = lambda x: torch.stack([forward(x[i : i + 1])[0] for i in range(x.shape[0])])
        return compact

    monkeypatch.setitem(child._ENGINES, "ours", careless)
    row = measured()
    assert (row.outcome, row.phase) == ("refused", "free batch")
    assert "cannot be exported with a dynamic batch" in row.reason


@pytest.mark.slow
def test_a_reloaded_network_that_answers_differently_is_wrong(measured, monkeypatch):
    right = ours.save_weights

    def careless(module, path):
        with torch.no_grad():
            module.o.bias.add_(1)
        right(module, path)
        with torch.no_grad():
            module.o.bias.sub_(1)

    monkeypatch.setattr(ours, "save_weights", careless)
    row = measured()
    assert (row.outcome, row.phase) == ("wrong", "reload")
    assert "the reloaded network differs by" in row.reason


def test_a_step_of_training_has_to_change_finite_weights():
    network, inputs = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(), (torch.randn(1, 3),)
    before = network[0].weight.clone()
    assert checks.training_step(network, inputs) > 0  # of two examples: BatchNorm trains on no single one
    assert not torch.equal(network[0].weight, before)
    with pytest.raises(checks.UntrainedError, match="changes no weight"):
        checks.training_step(nn.Sequential(nn.Linear(3, 4), nn.Threshold(1e9, 0.0)), inputs)
