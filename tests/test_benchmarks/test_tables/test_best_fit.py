"""The block is found from noisy times of layers."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.best_fit import best_fit, blocks_in_doubt, quality
from benchmarks.tables.build import build_table
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import Run, fitted, held_out
from benchmarks.tables.plan_space import GroupRange, PlanSpace, Size
from benchmarks.tables.staircases import LayerSizes

N, DENSE_NS = 8, 5e4
FIRST_ROUND = (32, 16, 8, 4, 1, 32, 16, 8, 4, 1, 32, 16, 8, 4)
SPACE = PlanSpace(
    model_sha256="0", graph="g", groups=tuple(GroupRange(name=f"g{i}", n_units=192) for i in range(N)), places=()
)
SIZES = [Size(terms=((group.name, 1),)) for group in SPACE.groups]
LAYERS = {f"l{i}": LayerSizes((SIZES[i], SIZES[i - 1]) if i else (SIZES[0],)) for i in range(N)}


def noisy_runs(seed, *, block, layer_noise, plan_noise, grains=FIRST_ROUND + 22 * (4,)):
    """Time chains of layers in blocks; each layer is disturbed, and each plan as a whole."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    for grain in grains:
        counts = SPACE.complete(draw(SPACE, LAYERS, rng, block=grain, least=0.3, most=1.0, absent=0.0))
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


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@pytest.mark.parametrize("block", [8, 16, 32])
def test_the_second_round_can_tell_what_the_first_one_cannot(seed, block):
    runs = list(noisy_runs(seed, block=block, layer_noise=0.03, plan_noise=0.03, grains=FIRST_ROUND))
    assert block in blocks_in_doubt(runs, LAYERS)


@pytest.mark.parametrize("seed", range(4))
def test_two_runs_that_show_a_block_are_not_taken_for_noise(seed):
    """They leave larger blocks partly filled; too few for their errors to be significant."""
    runs = list(noisy_runs(seed, block=1, layer_noise=0.0, plan_noise=0.0, grains=14 * (64,) + 2 * (1,)))
    fit, *_ = best_fit(runs, LAYERS)
    assert fit.block <= 8


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_that_slows_whole_plans_does_not_hide_the_block(seed):
    runs = list(noisy_runs(seed, block=16, layer_noise=0.02, plan_noise=0.3))
    fit, *_ = best_fit(runs, LAYERS)
    assert fit.block == 16


def test_equal_plans_are_held_out_together():
    """Otherwise the dense network, measured several times, would be predicted from itself."""
    runs = list(noisy_runs(0, block=16, layer_noise=0.05, plan_noise=0.05, grains=20 * (16,)))
    dense = replace(runs[0], counts=SPACE.complete({}))
    _, _, predicted = best_fit([dense, *runs[:9], dense, *runs[9:], dense], LAYERS)
    assert predicted[0] == predicted[10] == predicted[-1]


def test_a_run_is_held_out_of_the_fit_that_predicts_it():
    *runs, near = (
        replace(run, share=run.share / 2)
        for run in noisy_runs(0, block=16, layer_noise=0.05, plan_noise=0.05, grains=21 * (16,))
    )
    folds = [index % 5 for index in range(20)]
    layers, whole = held_out([*runs, near], LAYERS, 16, 8, DENSE_NS, folds=folds, n_near=1)
    for fold in range(5):
        rest = [run for run, own in zip(runs, folds, strict=True) if own != fold]
        fit = fitted([*rest, near], LAYERS, 16, 8, DENSE_NS, n_near=1)
        for index in range(fold, 20, 5):
            assert whole[index] == pytest.approx(fit.predict_ns(runs[index].counts), rel=1e-6)
            for layer in fit.layers:  # as profiled, which takes twice as long
                profiled = layers[index][layer.name]
                assert 2 * layer.time_ns(runs[index].counts, 16) == pytest.approx(profiled, rel=0.1)


def test_a_doubtful_block_is_told_from_the_smaller_one_in_the_second_round(
    dense, space, new_runtime, new_world, monkeypatch
):
    monkeypatch.setattr("benchmarks.tables.build.blocks_in_doubt", lambda *_: (8, 16))
    spec = SubjectSpec(model=dense, backend="ort")
    table = build_table(spec, space, processes=new_runtime().processes, machine=new_world())
    counts = [count for plan in table.plans[16:] for count in plan.counts.values()]
    assert all(count % 8 == 0 for count in counts)
    odd = sum(count % 16 > 0 for count in counts) / len(counts)
    assert 0.1 < odd < 0.4


def test_equal_times_share_their_rank_and_only_equal_ones_have_no_correlation():
    assert quality([1.0, 2.0, 3.0], [10.0, 20.0, 21.0]).rank_correlation == 1
    tied = quality([1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 3.1, 2.9])
    assert tied == quality([1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 2.9, 3.1])
    assert 0.94 < tied.rank_correlation < 0.95
    assert quality([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]).rank_correlation is None
