"""A plan space is found once for networks of one structure, whatever their weights, and for no other."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from benchmarks.subject.subject import content_sha256
from benchmarks.tables.plan_space import PlanSpace, WholeLayer
from deploy.exporting.export import export_onnx
from deploy.tables import plan_space
from deploy.tables.kept_spaces import find_space, space_of_table, spaces_folder
from pruners.graph import trace

INPUTS = (torch.zeros(2, 3, 8, 8),)


def network(seed, middle=12):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, middle, 3), nn.ReLU(), nn.Conv2d(middle, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the plan space of a network; return it, its file and how many networks were exported."""
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    exported = []
    export = plan_space.export_onnx

    def counting(*arguments, **keywords):
        exported.append(arguments)
        return export(*arguments, **keywords)

    monkeypatch.setattr(plan_space, "export_onnx", counting)

    def make(model, name):
        del exported[:]
        space = plan_space.write_plan_space(model, trace(model, INPUTS), INPUTS, tmp_path / name)
        return space, tmp_path / name, len(exported)

    return make


@pytest.mark.slow
def test_networks_of_one_structure_have_one_plan_space(write, tmp_path, monkeypatch):
    first, _, n_first = write(network(0), "first")
    again, folder, n_again = write(network(1), "again")
    assert (n_first, n_again) == (3, 1)  # the network, one that explains its sizes and one that proves them
    assert again.model_sha256 == content_sha256(folder / "dense.onnx") != first.model_sha256
    assert again.model_copy(update={"model_sha256": first.model_sha256}) == first
    assert PlanSpace.load(folder / "plan-space.json") == again
    wider, _, n_wider = write(network(0, middle=16), "wider")
    assert n_wider == 3
    assert wider.whole != first.whole

    graph = trace(network(1), INPUTS)
    assert find_space(folder / "dense.onnx", graph, blocks=False) == again
    assert find_space(folder / "dense.onnx", graph, blocks=True) is None
    monkeypatch.setattr("deploy.tables.kept_spaces.versions", lambda *_: {"torch": "0.1"})
    assert find_space(folder / "dense.onnx", graph, blocks=False) is None
    assert all(path.stat().st_size for path in (tmp_path / "state" / "plan-spaces").iterdir())


def test_the_plan_space_of_a_table_is_found_without_the_network(write, dense_table, tmp_path):
    space, folder, _ = write(network(0), "first")
    dense, table = folder / "dense.onnx", dense_table(space)
    assert space_of_table(table, dense) == space
    other = table.key.model_copy(update={"graph": "another"})
    assert space_of_table(table.model_copy(update={"key": other}), dense) is None
    assert space_of_table(table.model_copy(update={"blocks": {"skip": ()}}), dense) is None
    # Networks of one structure share it, whatever their weights; others do not.
    export_onnx(network(1), INPUTS, tmp_path / "again.onnx")
    again = space_of_table(table, tmp_path / "again.onnx")
    assert again == space.model_copy(update={"model_sha256": content_sha256(tmp_path / "again.onnx")})
    export_onnx(network(0, middle=16), INPUTS, tmp_path / "wider.onnx")
    assert space_of_table(table, tmp_path / "wider.onnx") is None
    # Of several, as after an upgrade, the newest.
    (kept,) = spaces_folder().iterdir()
    told = (WholeLayer(node=0, reason="an operator was refused"),)
    newer = kept.with_name(kept.name.replace("-", "-0", 1))
    space.model_copy(update={"whole_layers": told}).save(newer)
    for age, path in enumerate((newer, kept)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert space_of_table(table, dense).whole_layers == told
    os.utime(newer, (0, 0))
    assert space_of_table(table, dense) == space
