"""Outputs that the caller does not use do not hold the layers that make them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners import Target
from pruners.errors import SelectorError
from pruners.graph import trace
from pruners.policy import Policy
from pruners.registry import create
from pruners.target import Constraints
from pruners.task import PruningTask
from pruners.verify import verify

IMAGE = torch.randn(2, 3, 8, 8)


class Detector(nn.Module):
    """Returns what its neck made beside what its head says, as detectors do; in training mode the raw parts alone."""

    def __init__(self):
        super().__init__()
        self.stem, self.neck = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.boxes, self.unused = nn.Conv2d(24, 4, 1), nn.Parameter(torch.ones(4))

    def forward(self, x):
        feats = [torch.relu(self.neck(torch.relu(self.stem(x))))]
        raw = {"boxes": self.boxes(feats[0]), "feats": feats}
        grid = torch.arange(x.shape[-1]).type_as(feats[0])
        if self.training:
            return {**raw, "boxes": raw["boxes"] * self.unused.reshape(1, 4, 1, 1)}
        return raw["boxes"].sigmoid() + grid, raw


def task(*outputs, form="auto"):
    torch.manual_seed(0)
    return PruningTask(
        model=Detector().eval(),
        example_inputs=(IMAGE,),
        target=Target(of="flops", kept_fraction=0.4),
        constraints=Constraints(outputs=outputs, form=form),
    )


@pytest.mark.parametrize("outputs", [("0",), ("0", "1.boxes"), ("!1.feats",), ("!*.feats.0",), ("[01]*", "!1.f*")])
def test_features_that_are_not_named_shrink(outputs):
    result = create("l1").prune(task(*outputs))
    assert result.form == "module"
    assert len(result.plan.kept["neck"]) < 24
    prediction, raw = result.model(IMAGE)
    assert prediction.shape == (2, 4, 8, 8)
    assert raw["feats"][0].shape == (2, len(result.plan.kept["neck"]), 8, 8)
    assert result.plan.policy.outputs == outputs
    assert result.verification["relative_error"] <= 1e-4


@pytest.mark.parametrize("outputs", [(), ("*",), ("1",), ("1.feats",), ("1.feats.0", "0")])
def test_features_that_are_used_stay(outputs):
    graph = trace(Detector().eval(), (IMAGE,), policy=Policy(outputs=outputs))
    assert graph.group("neck").fixed == "its channels are an output of the network"
    assert graph.group("stem").prunable


def test_the_graph_form_trains_with_features_that_shrink():
    result = create("l1").prune(task("0", form="graph"))
    kept = len(result.plan.kept["neck"])
    assert result.model(IMAGE)[1]["feats"][0].shape[1] == kept
    assert result.model.train()(IMAGE)["feats"][0].shape[1] == kept


def test_what_shrinks_is_compared_all_the_same():
    given = task("0")
    result = create("l1").prune(given)

    class Other(Detector):
        def forward(self, x):
            prediction, raw = super().forward(x)
            return prediction, {**raw, "feats": [raw["feats"][0] + 1]}

    result.model.__class__ = Other
    with pytest.raises(Exception, match="masked and compact network differ"):
        verify(given.model, result.plan, result.model)


@pytest.mark.parametrize("wrong", ["feats", "1.feat", "!1.feat"])
def test_an_unknown_output_is_refused_in_one_line(wrong):
    with pytest.raises(SelectorError, match=r"outputs: '!?(1\.)?feats?' names no output of the network") as caught:
        create("l1").prune(task("0", wrong))
    assert "\n" not in str(caught.value)


def test_one_tensor_is_called_zero():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert trace(model, (torch.randn(3, 4),), policy=Policy(outputs=("0",))).group("2").fixed
    with pytest.raises(SelectorError, match="it has 0"):
        trace(model, (torch.randn(3, 4),), policy=Policy(outputs=("logits",)))


def test_patterns_are_a_tuple():
    with pytest.raises(SelectorError, match="outputs is a tuple of patterns"):
        Constraints(outputs="0")
