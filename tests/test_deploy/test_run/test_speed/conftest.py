"""A small network of two groups, and a table by which every unit takes 1 ns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.graph import trace
from pruners.target import Target
from pruners.task import PruningTask


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)
    ).eval()
    inputs = (torch.randn(2, 1, 8, 8),)
    groups = [group for group in trace(network, inputs).groups if group.prunable]
    model = LatencyModel(
        backend="simulated",
        graph="",
        block=1,
        base_ns=10.0,
        terms=tuple(LatencyTerm(1.0, (BlockCount(group.name, 1),)) for group in groups),
        sizes={group.name: group.n_units for group in groups},
    )
    return PruningTask(model=network, example_inputs=inputs, target=Target(kept_fraction=0.5, table=model)), model
