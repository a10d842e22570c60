"""The block is found from noisy times of layers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.tables.draws import draw
from benchmarks.tables.fit import LayerSizes, Run, best_fit
from benchmarks.tables.plan_space import GroupRange, PlanSpace, Size

N, DENSE_NS = 8, 5e4
SPACE = PlanSpace(
    model_sha256="0", graph="g", groups=tuple(GroupRange(name=f"g{i}", n_units=192) for i in range(N)), places=()
)
SIZES = [Size(terms=((group.name, 1),)) for group in SPACE.groups]
LAYERS = {f"l{i}": LayerSizes((SIZES[i], SIZES[i - 1]) if i else (SIZES[0],)) for i in range(N)}


def noisy_runs(seed, *, block, layer_noise, plan_noise):
    """Time chains of layers in blocks; each layer is disturbed, and each plan as a whole."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    for index in range(36):
        grain = (32, 16, 8, 4, 1)[index % 5] if index < 14 else 4
        counts = SPACE.complete(draw(SPACE, rng, block=grain, least=0.3, most=1.0, absent=0.0))
        blocks = [-(-counts[group.name] // block) for group in SPACE.groups]
        plan = 1 + plan_noise * noise.standard_normal()
        times = {
            f"l{i}": plan
            * (1 + layer_noise * noise.standard_normal())
            * (200 + 40 * blocks[i] + 30 * blocks[i] * (blocks[i - 1] if i else 1))
            for i in range(N)
        }
        share = sum(times.values()) / DENSE_NS * (1 + 0.5 * plan_noise * noise.standard_normal())
        yield Run(counts=counts, layers_ns=times, share=share, dense_ns=DENSE_NS)


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_no_coarser_block_is_taken_for_the_noise(seed):
    """As with two threads on shared cores; counts of every other block would be out of reach."""
    fit, *_ = best_fit(list(noisy_runs(seed, block=16, layer_noise=0.05, plan_noise=0.1)), LAYERS)
    assert fit.block == 16
