"""AutoPruner: one step after the other, what it reports, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError, TargetError
from pruners.recover.settings import TrainSettings
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task


class ByHand(nn.Module):
    """The channels of `inner` are read by a weight that no layer has."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.weight = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        x = F.relu(self.inner(F.relu(self.stem(x))))
        return F.linear(x.mean((2, 3)), self.weight)


SHORT = TrainSettings(epochs=2, batch_size=8, lr=0.01)


def test_groups_are_pruned_one_after_the_other_and_each_step_is_reported():
    seen = []

    def fit_and_note(model, settings, *, name, gate=None):
        seen.append((name, {} if gate is None else gate.rates, sum(p.numel() for p in model.parameters())))
        return make_task(model).fit(model, settings, name=name, gate=gate)

    messages = []
    task = make_task(
        make_network("residual"),
        fit=fit_and_note,
        constraints=Constraints(exclude=("stem",)),
        progress=lambda message, _: messages.append(message),
    )
    out = create("autopruner", training=SHORT, layers_at_once=2, finetune=SHORT, check_every=2).prune(task)
    assert [(name, list(rates)) for name, rates, _ in seen] == [
        ("selection-1", ["expand", "blocks.0.conv1"]),
        ("selection-2", ["blocks.1.conv1"]),
        ("finetune", []),
    ]
    assert out.macs_after <= 0.6 * out.macs_before
    assert seen[-1][2] == out.params_after
    for (_, rates, _), row in zip(seen, out.history, strict=False):
        assert rates == {name: count / 12 for name, count in row["kept"].items()}
        assert row["kept"] == {name: len(out.plan.kept[name]) for name in rates}
        assert row["chosen"].keys() == row["alpha"].keys() == rates.keys()
        assert 0 <= row["gap"] <= 0.5
        assert (row["not_binary"] == 0) == (row["gap"] < 0.01)
        assert (f", {row['not_binary']} v not binary" in messages[row["step"] - 1]) == (row["not_binary"] > 0)
        assert row["loss_before_cut"] > 0
        assert row["loss_after_cut"] > 0


def test_a_group_that_no_layer_reads_stays_whole_and_is_named():
    task = make_task(ByHand(), constraints=Constraints(), target=Target(of="macs", kept_fraction=0.8))
    out = create("autopruner", training=SHORT).prune(task)
    assert set(out.plan.kept) == {"stem"}
    assert "weight reads it" in out.history[0]["ungated"]["inner"]
    tight = make_task(ByHand(), constraints=Constraints(exclude=("stem",)), fit=None)
    with pytest.raises(MethodError, match="trains by the epoch"):
        create("autopruner").prune(tight)
    with pytest.raises(MethodError, match=r"out of reach without .* 'inner'"):
        create("autopruner").prune(make_task(ByHand(), constraints=Constraints(exclude=("stem",))))


def test_what_cannot_work_is_refused_before_anything_is_trained():
    def never(*_, **__):
        raise AssertionError("trained")

    task = make_task(make_network("plain"), fit=never)
    with pytest.raises(MethodError, match="max_weights"):
        create("autopruner", max_weights=10).prune(task)
    with pytest.raises(MethodError, match="graph form only"):
        create("autopruner").prune(make_task(make_network("plain"), fit=never, constraints=Constraints(form="graph")))
    with pytest.raises(TargetError, match="lower layers_at_once"):
        create("autopruner").prune(
            make_task(make_network("plain"), fit=never, constraints=Constraints(max_units_per_step=1))
        )
    with pytest.raises(MethodError, match=r"'training'.*keep is 'last'"):
        create("autopruner", training={"epochs": 2, "keep": "best"})


def test_all_groups_at_once_work_in_graph_form():
    task = make_task(make_network("plain"), constraints=Constraints(form="graph"))
    out = create("autopruner", training=SHORT, layers_at_once=10).prune(task)
    assert out.form == "graph"
    assert len(out.history) == 1
