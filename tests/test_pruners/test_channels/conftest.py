"""An oracle of exactness: the network with its feature maps masked, its weights left as they are."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from pruners.channels.labels import Value


class _MaskedMaps(fx.Interpreter):
    """Zeroes removed channels in every value that depends on the inputs, and in no other one."""

    def __init__(self, graph, plan):
        super().__init__(graph.module)
        self.walk, self.survivors = graph.grouping.walk, graph.survivors(plan)
        self.live = set()

    def run_node(self, n):
        result = super().run_node(n)
        if n.op == "placeholder" or any(item.name in self.live for item in n.all_input_nodes):
            self.live.add(n.name)
            return self.masked(result, self.walk.values.get(n.name))
        return result

    def masked(self, result, value):
        if isinstance(result, (list, tuple)) and isinstance(value, list):
            return [self.masked(*pair) for pair in zip(result, value, strict=True)]
        if not isinstance(value, Value) or not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return result
        for axis in value.axes:
            stay = self.survivors.along(value, axis)
            if stay is not None:
                result = result.index_fill(axis, (~stay).nonzero().flatten(), 0)
        return result


@pytest.fixture(scope="session")
def with_masked_maps():
    """Return ``outputs(graph, plan, *inputs)``: what an exact plan has to leave bit for bit, but for rounding."""

    def outputs(graph, plan, *inputs):
        with torch.no_grad():
            return _MaskedMaps(graph, plan).run(*inputs)

    return outputs
