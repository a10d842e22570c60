"""`pruners.prune` to a speed that is measured: what is asked of whom, how it landed, and what is refused before."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

import deploy
import pruners
from backends import registry as backends
from deploy.bundles.of_pruned import proof_of
from deploy.run import speed_service
from deploy.run.speed.rounds import SpeedTable
from pruners import registry
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import MethodError, ServiceError, TargetError
from pruners.graph import trace
from pruners.removals import RemovalFolder
from pruners.target import Constraints

DATA = {"batches": list, "loss": nn.functional.cross_entropy}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)
    ).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 1, 8, 8)


@pytest.fixture
def simulated(network, images, monkeypatch):
    """Take the place of a machine on which a plan takes ``law`` of what its table predicts, in blocks of 8 channels."""
    groups = [group for group in trace(network, images).groups if group.prunable]
    model = LatencyModel(
        backend="ort",
        graph="",
        block=8,
        base_ns=10.0,
        terms=tuple(LatencyTerm(1.0, (BlockCount(group.name, 8),)) for group in groups),
        sizes={group.name: group.n_units for group in groups},
    )
    asked = {}

    def simulate(law=lambda share: share):
        def share(counts):
            return law(model.time_ns(counts) / model.time_ns())

        def speed_table(table, spec, space, **facts):
            def refine(counts, measured):
                return made if measured is None else replace(made, model=replace(model, base_ns=model.base_ns + 2.0))

            asked.update(facts, spec=spec)
            made = SpeedTable(
                model=model,
                dense_ns=model.time_ns(),
                asked=facts["asked"],
                tolerance=facts["tolerance"],
                threads=spec.options.threads,
                share=share,
                refine=refine,
            )
            return made

        monkeypatch.setattr(speed_service, "write_plan_space", lambda *_, **options: asked.update(options))

        def table_of(*_, progress, **__):
            progress("plan 1/1", 1.0)
            return model

        monkeypatch.setattr(speed_service, "table_of", table_of)
        monkeypatch.setattr(speed_service, "speed_table", speed_table)
        return asked

    return simulate


def test_a_speed_is_measured_and_told(simulated, network, images):
    asked, said = simulated(), []
    pruned = pruners.prune(
        network, images, speed_up=1.5, threads=2, tolerance=0.1, progress=lambda line, share: said.append(line)
    )
    speed = pruned.speed
    assert (speed.backend, speed.threads, speed.asked_speed_up, speed.met) == ("ort", 2, 1.5, True)
    assert speed.measured_speed_up == speed.predicted_speed_up
    assert abs(1 / speed.measured_speed_up - 1 / 1.5) <= 0.1
    assert asked["dynamic_batch"] is True
    assert (asked["spec"].backend, asked["spec"].batch, asked["spec"].options.threads) == ("ort", None, 2)
    assert all(len(units) % 8 == 0 for units in pruned.plan.kept.values())
    assert "plan 1/1" in said
    assert ", 1.50x the speed on ort asked, " in repr(pruned)
    assert len(repr(pruned)) < 500
    assert proof_of(pruned).speeds == (speed,)
    assert proof_of(pruned).landing.startswith("asked for 1.50x the speed on ort")


def test_a_plan_that_is_off_is_corrected(simulated, network, images):
    simulated(lambda share: 0.2 + 0.8 * share)
    speed = pruners.prune(network, images, speed_up=1.5, tolerance=0.03, constraints=Constraints()).speed
    assert speed.met
    assert len(speed.measured) > 1


def test_a_speed_that_is_not_reached_is_said(simulated, network, images):
    simulated(lambda share: 0.95)
    pruned = pruners.prune(network, images, speed_up=2)
    assert not pruned.speed.met
    assert repr(pruned).endswith("1.05x measured: not reached)")


def test_how_it_is_measured_is_handed_on(simulated, network, images):
    asked = simulated()
    constraints = Constraints(exclude=("0",))
    pruned = pruners.prune(
        network, images, speed_up=1.2, on="openvino", batch=4, dynamic_batch=False, constraints=constraints, seed=3
    )
    assert (asked["spec"].backend, asked["spec"].batch, asked["seed"]) == ("openvino", 4, 3)
    assert asked["dynamic_batch"] is False
    assert "0" not in pruned.plan.kept


def test_what_is_learned_is_kept_with_the_removals(simulated, network, images, tmp_path):
    """So that a pruning that is killed and called again goes on."""
    asked = simulated()
    keeper = RemovalFolder(tmp_path / "removals")
    files = []
    other = Constraints(multiple_of=8, min_fraction=0.5)  # other plans are measured for it
    for constraints in (None, None, Constraints(multiple_of=8), other, Constraints()):
        pruners.prune(network, images, speed_up=1.5, tolerance=0.1, keeper=keeper, constraints=constraints)
        files.append(asked["kept"])
    assert {file.parent for file in files} == {tmp_path / "removals"}
    assert files[0] == files[1] == files[2]
    assert len(set(files)) == 3
    pruners.prune(network, images, speed_up=1.5, tolerance=0.1)
    assert asked["kept"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"flops": 0.5, "speed_up": 2}, TargetError, "got flops and speed_up"),
        ({"flops": 0.5, "on": "ort"}, TargetError, "on say where speed_up is measured, and contradict flops"),
        ({"speed_up": 2, "on": "ort", "table": "a table"}, TargetError, "on say .* contradict table"),
        ({"flops": 0.5, "table": "a table"}, TargetError, "a latency table belongs to speed_up, not to flops"),
        ({"speed_up": 0.5}, TargetError, "how many times faster, more than 1; got 0.5"),
        ({"speed_up": math.inf}, TargetError, "how many times faster, more than 1; got inf"),
        ({"speed_up": 2, "threads": 0}, TargetError, "threads is at least 1, got 0"),
        ({"speed_up": 2, "on": ["ort"]}, TargetError, r"on is the name of one backend, got \['ort'\]"),
        ({"speed_up": 2, "table": "a table"}, TargetError, "table is a LatencyModel, got str: convert a LatencyTable"),
        ({"speed_up": 2, "tolerance": 1.0}, TargetError, r"tolerance is a share .*; got 1.0"),
        ({"speed_up": 2, "on": "torch-compile"}, TargetError, "so no latency table can be made"),
        ({"speed_up": 2, "on": "nothing"}, deploy.DeployError, "unknown backend 'nothing'"),
        ({"speed_up": 2, "precision": "fp99"}, deploy.DeployError, "precision 'fp99' is not one of"),
        ({"speed_up": 2, "method": "magnitude"}, MethodError, "which makes no network faster"),
        ({"speed_up": 2, "method": "taylor"}, MethodError, "the task has to hand in batches"),
        ({"speed_up": 2, "method": "taylor", **DATA}, MethodError, "the task has to hand in train, or set"),
        ({"speed_up": 2, "method": "slimming", **DATA}, MethodError, "the task has to hand in fit"),
        (
            {"speed_up": 2, "method": "criterion", "settings": {"criterion": "taylor"}},
            MethodError,
            "criterion 'taylor' scores units on training data: the task has to hand in batches",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_measured(
    monkeypatch, network, images, arguments, error, said
):
    monkeypatch.setattr(speed_service, "trace", lambda *_, **__: pytest.fail("it began"))
    with pytest.raises(error, match=said) as raised:
        pruners.prune(network, images, **arguments)
    assert "\n" not in str(raised.value)


def test_without_deploy_a_line_says_what_to_install(monkeypatch, network, images, tmp_path):
    monkeypatch.setattr(registry, "entry_points", lambda **_: ())
    with pytest.raises(ServiceError, match=r"measuring a speed is done by the package deploy, .* pip install"):
        pruners.prune(network, images, speed_up=2)
    with pytest.raises(ServiceError, match="exporting a network is done by the package deploy"):
        pruners.prune(network, images, flops=0.6).export(tmp_path / "a.onnx")


def test_what_was_pruned_is_exported(network, images, tmp_path):
    pruned = pruners.prune(network, images, flops=0.6)
    assert pruned.speed is None
    pruned.export(tmp_path / "pruned.onnx", dynamic_batch=False)
    wanted = deploy.export(pruned.model, images, tmp_path / "same.onnx", dynamic_batch=False)
    assert pruned.export(tmp_path / "pruned.onnx", dynamic_batch=False) == wanted
    (image,) = onnx.load(tmp_path / "pruned.onnx").graph.input
    assert image.type.tensor_type.shape.dim[0].dim_value == 2
    pruned.export(tmp_path / "pruned.onnx", torch.randn(3, 1, 8, 8), dynamic_batch=False)
    (image,) = onnx.load(tmp_path / "pruned.onnx").graph.input
    assert image.type.tensor_type.shape.dim[0].dim_value == 3


@pytest.mark.slow
def test_a_network_becomes_as_fast_as_was_asked_for(tmp_path):
    """Measured twice, the second time as anybody would: the ratio is about the one that was asked for."""
    if not backends.probe("ort").ok:
        pytest.skip("no ONNX Runtime")
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Conv2d(128, 128, 3), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)).eval()
    images = torch.randn(2, 3, 32, 32)
    pruned = pruners.prune(network, images, speed_up=2, on="ort", threads=1)
    assert pruned.speed.asked_speed_up == 2
    assert pruned.speed.measured_speed_up > 1.6
    deploy.export(network, images, tmp_path / "dense.onnx")
    pruned.export(tmp_path / "pruned.onnx")
    results = deploy.bench(tmp_path / "pruned.onnx", against=tmp_path / "dense.onnx", threads=1, trials=3)
    assert 1.5 < results.comparisons[0].speedup.value < 3
