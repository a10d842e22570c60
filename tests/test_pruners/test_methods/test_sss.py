"""Sparse Structure Selection as a method: what it trains, how it lands, what it says and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError, TargetError
from pruners.gates.gate import GATE
from pruners.gates.scales import StructureScales
from pruners.graph import trace
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

FREE = Constraints()
INPUTS = (torch.zeros(2, 3, 8, 8),)


def setting(scales):
    """Stand in for `PruningTask.fit`: set the scales of the named structures, of others to one."""

    def fit(model, settings, *, name, gate):
        assert isinstance(gate, StructureScales)
        fit.names.append(name)
        units = dict(zip(gate.scores(), gate.scales, strict=False))
        with torch.no_grad():
            for name, scale in units.items():
                scale.copy_(torch.as_tensor(scales.get(name, 1.0)).expand(scale.shape))
            for position, name in enumerate(gate.block_scores()):
                gate.scales[-1][position] = scales.get(name, 1.0)

    fit.names = []
    return fit


@pytest.mark.rounding
def test_what_ended_at_zero_goes_first_and_is_told():
    some = torch.ones(12)
    some[[1, 5, 7]] = 0
    fit = setting({"blocks.1": 0.0, "blocks.0.conv1": some})
    network = make_network("residual")
    graph = trace(network, INPUTS)
    zeros = graph.macs({"blocks.0.conv1": 9}, ("blocks.1",))
    target = Target(of="flops", kept_fraction=zeros / graph.macs() + 0.002)
    pruned = create("sss").prune(make_task(network, target=target, constraints=FREE, fit=fit))
    assert fit.names == ["scales"]
    assert pruned.plan.blocks == ("blocks.1",)
    assert pruned.plan.kept == {"blocks.0.conv1": (0, 2, 3, 4, 6, 8, 9, 10, 11)}
    assert pruned.landing == ""
    assert pruned.macs_after == zeros
    (row,) = pruned.history
    assert (row["zero_units"], row["zero_blocks"], row["macs_without_zeros"]) == (3, ["blocks.1"], zeros)
    assert (row["units_removed"], row["blocks_removed"], row["macs"]) == (3, ["blocks.1"], zeros)
    assert row["unscaled"] == {}


def test_scales_are_folded_into_the_network_that_is_handed_on():
    """With half the scale on a block the network adds half the branch; what is cut had no part in it."""
    half = torch.full((12,), 1.0)
    half[:6] = 0.0
    fit = setting({"blocks.0": 0.5, "blocks.0.conv1": half})
    network = make_network("residual").eval()
    target = Target(of="ratios", ratios={"blocks.0.conv1": 0.5})
    only_units = create("sss").prune(make_task(network, target=target, constraints=FREE, fit=fit)).model
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.blocks[0].conv2.weight[:, :6] = 0
        torch.testing.assert_close(only_units(images), network(images))
    assert not hasattr(only_units, GATE)
    assert type(only_units.blocks[0].conv2) is nn.Conv2d


@pytest.mark.rounding
def test_blocks_alone_land_at_or_below_and_say_so():
    fit = setting({"blocks.0": 0.4, "blocks.1": 0.2})
    network = make_network("residual")
    target = Target(of="flops", kept_fraction=0.7)
    pruned = create("sss", structures="blocks").prune(make_task(network, target=target, constraints=FREE, fit=fit))
    assert pruned.plan.blocks == ("blocks.1",)
    assert pruned.plan.kept == {}
    assert pruned.macs_after < 0.69 * pruned.macs_before
    assert "step up, of 'block blocks.1', would give 100.00%" in pruned.landing
    kept = pruned.model.state_dict()
    assert kept.keys() == {name for name in network.state_dict() if not name.startswith("blocks.1.")}
    assert torch.equal(kept["fc.weight"], network.fc.weight)
    torch.testing.assert_close(kept["blocks.0.bn2.weight"], 0.4 * network.blocks[0].bn2.weight.detach())


def test_units_alone_leave_blocks_without_scales():
    seen = []

    def fit(model, settings, *, name, gate):
        seen.append(gate.block_scores())

    pruned = create("sss", structures="units").prune(make_task(make_network("residual"), fit=fit))
    assert seen == [{}]
    assert pruned.plan.blocks == ()


def test_excluded_layers_hold_their_block():
    fit = setting({"blocks.0": 0.0, "blocks.1": 0.9})
    constraints = Constraints(exclude=("blocks.0.conv1",))
    task = make_task(
        make_network("residual"), target=Target(of="flops", kept_fraction=0.7), constraints=constraints, fit=fit
    )
    pruned = create("sss", structures="blocks").prune(task)
    assert pruned.plan.blocks == ("blocks.1",)
    assert pruned.history[0]["unscaled"] == {"blocks.0": "'blocks.0.conv1' in it is excluded or has bounds"}


def refuse(model, settings, *, name, gate):
    raise AssertionError("trained before it refused")


@pytest.mark.parametrize(
    ("network", "settings", "changes", "error", "said"),
    [
        ("plain", {"structures": "blocks"}, {}, MethodError, "no residual block"),
        (
            "residual",
            {"structures": "blocks"},
            {"constraints": Constraints(exclude=("expand",))},
            MethodError,
            "'expand'",
        ),
        (
            "residual",
            {"structures": "blocks"},
            {"target": Target(of="flops", kept_fraction=0.1)},
            TargetError,
            "is left",
        ),
        (
            "residual",
            {"structures": "blocks"},
            {"target": Target(of="ratios", ratios={"expand": 0.5})},
            MethodError,
            "removes no units",
        ),
        (
            "residual",
            {"structures": "blocks"},
            {"constraints": Constraints(bounds={"stem": (0.1, 0.5)})},
            MethodError,
            "removes no units",
        ),
    ],
)
def test_what_can_not_be_done_is_said_before_training(network, settings, changes, error, said):
    task = make_task(make_network(network), **{"constraints": FREE, "fit": refuse, **changes})
    with pytest.raises(error, match=said):
        create("sss", **settings).prune(task)


class Normed(nn.Module):
    """Two layers, the first of which is read by weights that are computed."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(F.relu(self.conv(F.relu(self.stem(x)))).mean((2, 3)))


def test_groups_without_a_scale_stay_whole_unless_they_are_asked_for():
    fit = setting({"conv.parametrizations.weight": torch.linspace(0.1, 1, 8)})
    task = make_task(Normed(), target=Target(of="macs", kept_fraction=0.8), constraints=FREE, fit=fit)
    pruned = create("sss").prune(task)
    (kept,) = pruned.plan.kept.values()
    assert kept == tuple(range(8 - len(kept), 8))
    assert pruned.history[0]["unscaled"].keys() == {"stem"}
    for changes, error in (
        ({"target": Target(of="macs", kept_fraction=0.3)}, TargetError),
        ({"target": Target(of="ratios", ratios={"stem": 0.5})}, MethodError),
    ):
        with pytest.raises(error, match="stem"):
            create("sss").prune(make_task(Normed(), constraints=FREE, fit=refuse, **changes))


def test_scratch_draws_anew_and_the_seed_counts():
    seen = []

    def fit(model, settings, *, name, gate):
        seen.append((settings.seed, model.stem.weight.detach().clone()))

    network = make_network("residual")
    for start, seed in (("dense", 0), ("scratch", 0), ("scratch", 1)):
        create("sss", start=start).prune(make_task(network, fit=fit, seed=seed))
    assert [seed for seed, _ in seen] == [0, 0, 1]
    dense, scratch, other = (weight for _, weight in seen)
    assert torch.equal(dense, network.stem.weight)
    assert not torch.equal(scratch, dense)
    assert not torch.equal(scratch, other)


@pytest.mark.rounding
def test_training_shrinks_what_does_not_help():
    """With a strong penalty structures end at exactly zero, and the network lands all the same."""
    quick = {"epochs": 6, "batch_size": 8, "lr": 0.05}
    network = make_network("residual")
    strong, weak = (
        create("sss", strength=s, unit_strength=s, training=quick)
        .prune(make_task(network, constraints=FREE))
        .history[0]
        for s in (2.0, 1e-6)
    )
    assert strong["zero_units"] > weak["zero_units"]
    assert set(strong["zero_blocks"]) == {"blocks.0", "blocks.1"}
    assert strong["macs_without_zeros"] < weak["macs_without_zeros"]


def test_settings_that_can_not_be_are_refused():
    with pytest.raises(MethodError, match="fp16"):
        create("sss", training={"epochs": 1, "precision": "fp16"})
    with pytest.raises(MethodError, match="fit"):
        create("sss").prune(make_task(make_network("residual"), fit=None))
