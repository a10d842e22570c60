"""A speed met by a share of another cost: the cost decides the counts, the measured time which share it is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.errors import WorkerError
from deploy.recipe import TargetSpec
from deploy.run.by_cost import prune_by_cost
from deploy.run.speed.rounds import SpeedTable
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import MethodError, TargetError
from pruners.graph import trace
from pruners.registry import create
from pruners.removals import RemovalFolder
from pruners.target import Constraints, Target
from pruners.task import PruningTask


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10)
    ).eval()
    return PruningTask(
        model=network, example_inputs=(torch.randn(2, 1, 8, 8),), target=Target(of="flops", kept_fraction=0.5)
    )


@pytest.fixture(scope="module")
def model(task):
    groups = [group for group in trace(task.model, task.example_inputs).groups if group.prunable]
    terms = tuple(LatencyTerm(1.0, (BlockCount(group.name, 1),)) for group in groups)
    sizes = {group.name: group.n_units for group in groups}
    return LatencyModel(backend="simulated", graph="", block=1, base_ns=10.0, terms=terms, sizes=sizes)


def table_of(model, law, asked=0.5):
    """Return a machine on which a plan takes `law` of what the table predicts, and the counts that were measured."""
    seen = []

    def share(counts):
        seen.append(dict(counts))
        return law(model.time_ns(counts) / model.time_ns())

    table = SpeedTable(
        model=model, dense_ns=model.time_ns(), asked=asked, tolerance=0.02, threads=1, share=share, refine=None
    )
    return table, seen


def test_the_share_that_is_measured_to_take_the_time_is_taken(task, model, tmp_path):
    """The table is far off, as it is for counts off the block."""
    table, seen = table_of(model, lambda share: 0.2 + 0.8 * share)
    kept = replace(task, keeper=RemovalFolder(tmp_path / "removals"))  # no share goes on from what another one kept
    pruned, (landing,) = prune_by_cost(create("uniform"), "flops", kept, [table])
    assert abs(landing.measured[landing.kept_round] - 0.5) <= 0.02
    assert abs(landing.predicted[landing.kept_round] - 0.5) > 0.05
    counts = {name: len(units) for name, units in pruned.plan.kept.items()}
    assert counts == seen[landing.kept_round]
    assert len({tuple(each.items()) for each in seen}) == len(seen) <= 10


def test_of_several_times_the_hardest_is_met(task, model):
    hard, easy = table_of(model, lambda share: share)[0], table_of(model, lambda share: share / 2)[0]
    pruned, landings = prune_by_cost(create("uniform"), "flops", task, [hard, easy])
    alone, _ = prune_by_cost(create("uniform"), "flops", task, [hard])
    assert pruned.plan.kept == alone.plan.kept
    assert all(landing.met for landing in landings)


def test_what_is_never_faster_is_refused(task, model):
    with pytest.raises(TargetError, match=r"2\.00x the speed on simulated was asked for, but the closest plan takes"):
        prune_by_cost(create("uniform"), "flops", task, [table_of(model, lambda share: 1.0 + share)[0]])


def test_a_speed_below_the_smallest_share_is_refused(task, model):
    half = replace(task, constraints=Constraints(min_fraction=0.5))
    with pytest.raises(
        TargetError, match=r"^5\.00x the speed on simulated was asked for, .* smallest share of the flops .* is 1\.\d+x"
    ):
        prune_by_cost(create("uniform"), "flops", half, [table_of(model, lambda share: share, asked=0.2)[0]])


def test_a_plan_that_cannot_be_measured_does_not_cost_the_measured_ones(task, model):
    given = iter((0.9, 0.6))

    def share(counts):
        if (measured := next(given, None)) is None:
            raise WorkerError("ort died of signal 9")
        return measured

    table, _ = table_of(model, lambda share: share)
    _, (landing,) = prune_by_cost(create("uniform"), "flops", task, [replace(table, share=share)])
    assert landing.measured == (0.9, 0.6)
    assert landing.kept_round == 1
    assert landing.why_off == "the next plan failed: ort died of signal 9"
    with pytest.raises(WorkerError, match="signal 9"):
        prune_by_cost(create("uniform"), "flops", task, [replace(table, share=share)])


def test_a_search_that_failed_does_not_call_its_smallest_share_the_smallest_there_is(task, model):
    """The first share is refused, the second one measured, and the third one's process dies."""
    half = replace(task, constraints=Constraints(min_fraction=0.5))
    given = iter((0.9,))

    def share(counts):
        if (measured := next(given, None)) is None:
            raise WorkerError("ort died of signal 9")
        return measured

    table, _ = table_of(model, lambda share: share, asked=0.2)
    _, (landing,) = prune_by_cost(create("uniform"), "flops", half, [replace(table, share=share)])
    assert landing.measured == (0.9,)
    assert landing.why_off == "the next plan failed: ort died of signal 9"


def test_a_method_that_reaches_no_share_says_so(task, model):
    def refuse(given):
        raise TargetError(f"{given.target.of}: out of reach")

    with pytest.raises(TargetError, match="flops: out of reach"):
        prune_by_cost(
            SimpleNamespace(prune=refuse, trains=""), "flops", task, [table_of(model, lambda share: share)[0]]
        )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("taylor", {}),
        ("criterion", {"updates_between": 1}),
        ("thinet", {"updates_between": 0, "training": {"epochs": 1}}),
    ],
)
def test_a_method_that_trains_is_refused(task, model, name, settings):
    """Each share would go on from the training of the one before."""
    table, seen = table_of(model, lambda share: share)
    with pytest.raises(MethodError, match=f"^method '{name}' trains while it prunes, .* takes up to ten prunings: .*$"):
        prune_by_cost(create(name, **settings), "flops", task, [table])
    assert not seen


def test_a_block_that_the_table_does_not_cover_is_named(task, model):
    plan = SimpleNamespace(kept={}, blocks=("layer1.0", "layer0.0"))
    method = SimpleNamespace(trains="", prune=lambda given: SimpleNamespace(plan=plan))
    with pytest.raises(TargetError, match=r"^the plan removes block 'layer0\.0', and .* on simulated knows no network"):
        prune_by_cost(method, "flops", task, [table_of(model, lambda share: share)[0]])


def test_only_a_speed_is_met_by_another_cost():
    assert TargetSpec(speed_up=2, by="flops").by == "flops"
    with pytest.raises(ValueError, match="belong to speed_up or latency_ms, not to params"):
        TargetSpec(params=0.5, by="flops")
