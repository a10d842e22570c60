"""A speed met by a share of another cost: the counts are those that the cost alone decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import nn

from deploy.recipe import TargetSpec
from deploy.run.by_cost import ByCost
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import TargetError
from pruners.removals import RemovalFolder
from pruners.target import Target
from pruners.task import PruningTask

TABLE = LatencyModel(
    backend="simulated",
    graph="",
    block=8,
    base_ns=100.0,
    terms=(LatencyTerm(1.0, (BlockCount("a", 1), BlockCount("b", 1))),),
    sizes={"a": 256, "b": 128},
)


class Even:
    """Keeps the same share of both groups, and not less than a tenth of the FLOPs."""

    def __init__(self):
        self.asked = []

    def prune(self, task):
        assert task.keeper is None  # what one share kept is of another pruning than the next
        share = task.target.kept_fraction
        self.asked.append((task.target.of, share))
        if share < 0.1:
            raise TargetError("a tenth is the least")
        counts = {name: int(size * share**0.5) for name, size in TABLE.sizes.items()}
        return SimpleNamespace(plan=SimpleNamespace(kept={name: range(count) for name, count in counts.items()}))


def task(kept):
    target = Target(kept_fraction=kept, table=TABLE)
    return PruningTask(model=nn.Identity(), example_inputs=(), target=target, keeper=RemovalFolder(Path("kept")))


def test_the_largest_share_that_takes_the_time_is_taken():
    method = Even()
    pruned = ByCost(method, "flops").prune(task(0.6))
    counts = {name: len(kept) for name, kept in pruned.plan.kept.items()}
    assert 0.55 < TABLE.time_ns(counts) / TABLE.time_ns() <= 0.6
    assert {of for of, _ in method.asked} == {"flops"}


def test_of_several_times_the_hardest_is_met():
    easy = replace(TABLE, backend="other")
    both = replace(
        task(0.6), target=Target(kept_fraction=0.9, table=easy, also=(Target(kept_fraction=0.6, table=TABLE),))
    )
    kept = ByCost(Even(), "flops").prune(both).plan.kept
    assert kept == ByCost(Even(), "flops").prune(task(0.6)).plan.kept


def test_a_time_that_no_share_takes_is_refused():
    with pytest.raises(TargetError, match=r"at no share of the flops is the network 20\.00x as fast"):
        ByCost(Even(), "flops").prune(task(0.05))


def test_only_a_speed_is_met_by_another_cost():
    assert TargetSpec(speed_up=2, by="flops").by == "flops"
    with pytest.raises(ValueError, match="belong to speed_up or latency_ms, not to params"):
        TargetSpec(params=0.5, by="flops")
