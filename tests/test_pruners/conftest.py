"""Plans to try the engine with."""

from __future__ import annotations

import random

import pytest

from pruners.plan import PruningPlan


@pytest.fixture
def plan_for():
    """Return ``make(graph, removed=0.4, seed=0)``: a random plan; ``removed=1`` leaves as little as is legal."""

    def make(graph, removed=0.4, seed=0, only=None):
        rng = random.Random(seed)
        kept = {}
        for group in graph.groups:
            if group.prunable and (only is None or group.name in only):
                count = max(group.min_units, round(group.n_units * (1 - removed)))
                kept[group.name] = tuple(sorted(rng.sample(range(group.n_units), count)))
        sizes = {group.name: group.n_units for group in graph.groups}
        return PruningPlan.from_kept(
            kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="by hand", settings={}
        )

    return make
