"""What the analysis costs beside torch.export, and that it grows with the number of nodes. Ratios of one run."""

from __future__ import annotations

import time

import pytest
import torch
import torchvision

from pruners import graph as engine
from pruners.graph import trace

NETWORKS = ("resnet50", "densenet201", "swin_t")


@pytest.mark.slow
def test_the_analysis_is_cheap_beside_the_export_and_about_linear(monkeypatch):
    spent = []

    def timed(*args, **kwargs):
        start = time.perf_counter()
        program = export(*args, **kwargs)
        spent.append(time.perf_counter() - start)
        return program

    export = engine.export
    monkeypatch.setattr(engine, "export", timed)
    per_node = {}
    for name in NETWORKS:
        model = getattr(torchvision.models, name)(weights=None).eval()
        start = time.perf_counter()
        graph = trace(model, (torch.randn(1, 3, 224, 224),))
        analysis = time.perf_counter() - start - sum(spent)
        nodes = len(graph.module.graph.nodes)
        per_node[name] = analysis / nodes
        assert analysis < sum(spent), f"{name}: {nodes} nodes"
        spent.clear()
    assert max(per_node.values()) < 2 * min(per_node.values()), per_node
