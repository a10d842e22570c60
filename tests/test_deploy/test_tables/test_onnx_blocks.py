"""Residual blocks are left out of the ONNX file as surgery leaves them out of the network."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from benchmarks.tables.best_fit import best_fit
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import Run, layer_sizes
from benchmarks.tables.narrow import Narrower
from deploy.exporting.export import export_onnx
from deploy.tables.latency_model import latency_model
from deploy.tables.plan_space import plan_space_of
from pruners.errors import MethodError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.task import PruningTask


class _Block(nn.Module):
    """A residual branch, and a ReLU after the sum that has nothing to do without it."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return (x + self.conv2(self.conv1(x).relu())).relu()


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2)
        self.blocks = nn.Sequential(_Block(8), _Block(8), nn.Conv2d(8, 12, 1), _Block(12))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(self.blocks(self.pool(self.stem(x).relu())).mean((2, 3)))


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    torch.manual_seed(0)
    network, inputs = _Network().eval(), (torch.randn(2, 3, 8, 8),)
    graph = trace(network, inputs)
    path = tmp_path_factory.mktemp("residual") / "dense.onnx"
    export_onnx(network, inputs, path)
    return network, graph, inputs, path, plan_space_of(network, graph, inputs, path, blocks=True)


def test_each_block_is_found_with_the_groups_that_go_with_it(residual):
    *_, space = residual
    assert {block.name: block.groups for block in space.blocks} == {
        f"blocks.{i}": (f"blocks.{i}.conv1",) for i in (0, 1, 3)
    }


@pytest.mark.parametrize("gone", [("blocks.0",), ("blocks.0", "blocks.1"), ("blocks.3", "blocks.1")])
def test_the_file_without_a_block_answers_as_the_network_without_it(residual, gone):
    network, graph, inputs, path, space = residual
    wanted = {**{group.name: group.n_units - 2 for group in space.groups}, **dict.fromkeys(gone, 0)}
    counts = space.complete(wanted)
    left = {group.name: counts[group.name] for group in space.groups if counts[group.name]}
    plan = PruningPlan.from_kept(
        {name: tuple(range(count)) for name, count in left.items()},
        {name: graph.group(name).n_units for name in left},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="test",
        settings={},
        blocks=gone,
    )
    with torch.no_grad():
        expected = apply(network, plan, graph=graph)(*inputs).numpy()
    session = onnxruntime.InferenceSession(Narrower(path, space).model(wanted).SerializeToString())
    (answer,) = session.run(None, {session.get_inputs()[0].name: inputs[0].numpy()})
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4)


def test_blocks_go_where_the_table_knows_the_network_without_them(residual, dense_table):
    network, _, inputs, _, space = residual
    for known in (True, False):
        blocks = {block.name: block.groups for block in space.blocks} if known else {}
        made = dense_table(space.model_copy(update={"blocks": ()})).model_copy(update={"blocks": blocks})
        task = PruningTask(
            model=network,
            example_inputs=inputs,
            target=Target(speed_up=1.3, table=latency_model(made)),
            constraints=Constraints(),
        )
        method = create("criterion", criterion="l1", structures="both")
        if known:
            assert method.prune(task).verification
        else:
            with pytest.raises(MethodError, match="whose table knows residual blocks"):
                method.prune(task)


class _Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class _Dense(nn.Module):
    """A residual dense block, as in ESRGAN: its last convolution also reads the block's input."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(width + 6, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(torch.cat([x, self.conv1(x).relu()], 1))


class _Around(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.stem, self.blocks, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*blocks), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


def _space(network, path):
    torch.manual_seed(0)
    inputs = (torch.randn(2, 3, 8, 8),)
    export_onnx(network.eval(), inputs, path)
    graph = trace(network, inputs)
    return graph, plan_space_of(network, graph, inputs, path, blocks=True)


@pytest.mark.slow
def test_of_nested_blocks_the_inner_ones_can_go(tmp_path):
    network = _Around(_Residual(nn.Sequential(_Block(8), _Residual(_Block(8)))), _Block(8))
    graph, space = _space(network, tmp_path / "dense.onnx")
    assert "blocks.0" in {block.name for block in graph.blocks}
    assert {block.name: block.groups for block in space.blocks} == {
        "blocks.0.inner.0": ("blocks.0.inner.0.conv1",),
        "blocks.0.inner.1.inner": ("blocks.0.inner.1.inner.conv1",),
        "blocks.1": ("blocks.1.conv1",),
    }
    nodes = [index for block in space.blocks for index in block.nodes]
    assert len(nodes) == len(set(nodes))


@pytest.mark.slow
def test_a_block_with_a_layer_from_its_input_to_its_sum_stays(tmp_path):
    path = tmp_path / "dense.onnx"
    graph, space = _space(_Around(_Dense(8), _Block(8)), path)
    assert [block.name for block in graph.blocks] == ["blocks.0", "blocks.1"]
    assert [block.name for block in space.blocks] == ["blocks.1"]
    sizes = layer_sizes(onnx.load(path).graph, space)
    rng, runs = random.Random(0), []
    for _ in range(20):
        counts = space.complete(draw(space, sizes, rng, block=1, least=0.3, most=1.0, absent=0.3))
        runs.append(Run(counts=counts, layers_ns=dict.fromkeys(sizes, 1000.0), share=1.0, dense_ns=9000.0))
    fit, *_ = best_fit(runs, sizes, blocks=(4,))
    assert {layer.name for layer in fit.layers} == set(sizes)
