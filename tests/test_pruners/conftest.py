"""Plans to try the engine with, and two processes that work together."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture(scope="session")
def two_processes():
    """Return ``run(*script, folder)``: Python twice at once, with the rank and a folder as last arguments."""

    def run(*script, folder):
        root = str(Path(__file__).parents[2])
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": root}
        children = [
            subprocess.Popen(
                [sys.executable, *script, str(rank), str(folder)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            said = [child.communicate(timeout=300)[1] for child in children]
        finally:
            for child in children:
                with child:
                    child.kill()
        assert [child.returncode for child in children] == [0, 0], "".join(said)

    return run
