"""Two processes over gloo score as one that saw all the data, and end with one plan. This file is also their script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from pruners.distributed import broadcast_plan, reduce_means
from pruners.errors import MethodError, PlanError
from pruners.graph import trace
from pruners.importance.criteria import create_criterion, criterion_class, criterion_names
from pruners.importance.evidence import Evidence
from pruners.importance.measures.oracle import ablate
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

# Processes of a Hutchinson estimate draw other signs than one process would, on other batches.
SAME = [
    n for n in criterion_names() if criterion_class(n).needs_data and "draws" not in criterion_class(n).model_fields
]
DRAWN = [n for n in criterion_names() if "draws" in criterion_class(n).model_fields]
GROUPS = ("stem",)
METHODS = {
    "criterion": {"criterion": "taylor_fo", "steps": 2, "batches_per_step": 2},
    "taylor": {"steps": 2, "batches_per_step": 2, "updates_between": 0},
}


def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 3, 8, 8, generator=generator), torch.randint(0, 5, (4,), generator=generator)) for _ in range(4)
    ]


def evidence_on(some):
    net = make_network("plain")
    graph = trace(net, (torch.zeros(2, 3, 8, 8),))
    return Evidence(model=net, graph=graph, groups=GROUPS, batches=some, loss=F.cross_entropy)


def plan_by(name, some):
    """Prune on batches that are handed out in turn, as often as is asked."""

    def endless():
        while True:
            yield from some

    task = make_task(
        make_network("plain"),
        batches=endless,
        constraints=Constraints(),
        target=Target(of="params", kept_fraction=0.5),
        train=None,
    )
    settings = dict(METHODS[name])
    if len(some) > 2:  # one process sees in a step what two saw together
        settings["batches_per_step"] = len(some)
    return create(name, **settings).prune(task).plan


def work(rank, folder):
    """What each process does."""
    import torch.distributed as dist

    # Three batches for the first process, one for the other: the averages have to be weighted.
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mine = batches()[:3] if rank == 0 else batches()[3:]
    evidence = evidence_on(mine)
    found = {name: create_criterion(name).scores(evidence) for name in SAME + DRAWN}
    found["oracle"] = ablate(evidence).changes
    means, n = reduce_means([torch.tensor([float(rank), 8.0])], 3 if rank == 0 else 1)
    found["reduced"] = [means[0].tolist(), n]
    halves = batches()[:2] if rank == 0 else batches()[2:]
    plans = {name: plan_by(name, halves).model_dump(mode="json") for name in METHODS}
    own = PruningPlan(graph="g", inputs=(), method="by hand", sizes={"a": 4}, kept={"a": (rank,)})
    plans["broadcast"] = broadcast_plan(own).model_dump(mode="json")
    refused = []
    for attempt in (
        lambda: broadcast_plan(own.model_copy(update={"graph": f"g{rank}"})),
        lambda: reduce_means([torch.ones(1)], 0),
    ):
        try:
            attempt()
        except (MethodError, PlanError) as error:
            refused.append(str(error))
    Path(folder, f"{rank}.json").write_text(json.dumps({"scores": found, "plans": plans, "refused": refused}))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(two_processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    two_processes(__file__, folder=folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_both_processes_have_the_same_scores(two):
    first, second = (one["scores"] for one in two)
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_scores_are_those_of_one_process_that_saw_all(two, name):
    whole = create_criterion(name).scores(evidence_on(batches()))
    for group, values in whole.items():
        assert two[0]["scores"][name][group] == pytest.approx(values, rel=1e-5, abs=1e-9)
    apart = create_criterion(name).scores(evidence_on(batches()[:3]))
    assert two[0]["scores"][name]["stem"] != pytest.approx(apart["stem"], rel=1e-5)


@pytest.mark.slow
def test_the_oracle_is_that_of_one_process(two):
    assert two[0]["scores"]["oracle"]["stem"] == pytest.approx(ablate(evidence_on(batches())).changes["stem"], abs=1e-5)


@pytest.mark.slow
def test_averages_are_weighted_by_examples(two):
    assert two[1]["scores"]["reduced"] == [[0.25, 8.0], 4]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_both_processes_end_with_the_plan_of_one_that_saw_all(two, name):
    first, second = (one["plans"][name] for one in two)
    assert first == second
    assert PruningPlan.model_validate(first).kept == plan_by(name, batches()).kept


@pytest.mark.slow
def test_the_first_process_decides(two):
    assert [one["plans"]["broadcast"]["kept"] for one in two] == [{"a": [0]}] * 2


@pytest.mark.slow
def test_processes_that_do_not_fit_are_refused_everywhere(two):
    for one in two:
        traced, nothing = one["refused"]
        assert "trace different networks" in traced
        assert "no process has seen an example" in nothing


@pytest.mark.slow
def test_one_process_gets_back_what_it_gave():
    means, n = reduce_means([torch.tensor([1.0, 2.0])], 3)
    assert (means[0].tolist(), n) == ([1.0, 2.0], 3)
    plan = PruningPlan(graph="g", inputs=(), method="by hand", sizes={"a": 2}, kept={"a": (1,)})
    assert broadcast_plan(plan) is plan


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
