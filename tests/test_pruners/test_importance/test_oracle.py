"""The oracle against a network cut by hand, and Spearman's correlation against its formula."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.graph import trace
from pruners.importance.criteria import create_criterion
from pruners.importance.evidence import Evidence
from pruners.importance.measures.oracle import ablate
from pruners.importance.ranks import correlate, ranks, spearman
from pruners.testing import NETWORKS, make_network


def make_evidence(net, groups, n=8, sizes=(4, 4), side=8):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, 3, side, side, generator=generator)
    labels = torch.randint(0, 5, (n,), generator=generator)
    batches = list(zip(images.split(sizes), labels.split(sizes), strict=True))
    return Evidence(model=net, graph=trace(net, (images[:2],)), groups=groups, batches=batches, loss=F.cross_entropy)


def test_oracle_by_hand():
    """Two hidden units, one example, mean squared error: 4 as it is, 1 without the first, 1 without the second."""
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [3.0]]))
        net[2].weight.copy_(torch.tensor([[1.0], [1.0]]).T)
    x = torch.tensor([[1.0]])
    graph = trace(net, (torch.ones(2, 1),))
    evidence = Evidence(model=net, graph=graph, groups=("0",), batches=[(x, torch.tensor([[2.0]]))], loss=F.mse_loss)
    oracle = ablate(evidence)
    assert oracle.loss == pytest.approx(4)
    assert oracle.changes == {"0": (pytest.approx(1 - 4), pytest.approx(1 - 4))}
    assert oracle.absolute == {"0": (pytest.approx(3), pytest.approx(3))}
    assert oracle.n_examples == 1


@pytest.mark.parametrize("network", list(NETWORKS))
def test_ablation_is_a_run_with_zeroed_maps(network):
    """Against a fresh run of the whole graph for each unit, on batches of unequal size."""
    net = make_network(network)
    probe = trace(net, (torch.zeros(2, 3, 8, 8),))
    groups = tuple(group.name for group in probe.groups if group.prunable)
    evidence = make_evidence(net, groups, sizes=(3, 5))
    oracle = ablate(evidence)
    images, labels = (torch.cat(parts) for parts in zip(*evidence.batches, strict=True))
    graph = evidence.graph

    def loss(name=None, unit=0):
        def zeroed(site):
            def tap(value):
                value = value.clone()
                value.movedim(site.axis, 0)[list(site.indices[unit])] = 0
                return value

            return tap

        taps = {} if name is None else {site.node: zeroed(site) for site in graph.sites[name]}
        with torch.no_grad():
            return float(F.cross_entropy(graph.run((images,), taps), labels))

    assert oracle.loss == pytest.approx(loss(), rel=1e-5)
    for name in groups:
        expected = [loss(name, unit) - loss() for unit in range(graph.group(name).n_units)]
        assert oracle.changes[name] == pytest.approx(expected, abs=1e-5)


def test_the_network_and_its_taps_are_as_before():
    net = make_network("residual")
    evidence = make_evidence(net, ("stem",))
    images = evidence.batches[0][0]
    before = evidence.graph.run((images,))
    said = []
    ablate(evidence, lambda message, done: said.append(done))
    assert torch.equal(before, evidence.graph.run((images,)))
    assert said == [0.5, 1.0]


def test_what_the_oracle_cannot_do_is_refused():
    net = make_network("plain")
    evidence = make_evidence(net, ("conv",))
    without = Evidence(model=net, graph=evidence.graph, groups=("conv",), batches=evidence.batches)
    with pytest.raises(MethodError, match="no loss"):
        ablate(without)
    empty = Evidence(model=net, graph=evidence.graph, groups=("conv",), loss=F.cross_entropy)
    with pytest.raises(MethodError, match="no batches"):
        ablate(empty)
    with torch.no_grad():
        net.fc.weight[0, 0] = float("nan")
    with pytest.raises(MethodError, match="not finite"):
        ablate(evidence)


def test_first_order_taylor_foretells_the_oracle_of_a_linear_loss():
    """Where the loss is linear in each unit, the slope is the change: signs aside, the rankings are the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
    x = torch.randn(1, 4)
    evidence = Evidence(
        model=net,
        graph=trace(net, (x.expand(2, -1),)),
        groups=("0",),
        batches=[(x, torch.zeros(1))],
        loss=lambda outputs, labels: outputs.mean(),
    )
    oracle = ablate(evidence).absolute
    found = correlate(create_criterion("taylor").scores(evidence), oracle)
    assert create_criterion("taylor").scores(evidence)["0"] == pytest.approx(oracle["0"], rel=1e-5)
    assert found.per_layer == pytest.approx(1)
    assert found.overall == pytest.approx(1)


def test_spearman_is_its_formula_without_ties():
    rng = random.Random(0)
    for n in (2, 3, 10, 50):
        a, b = rng.sample(range(1000), n), rng.sample(range(1000), n)
        d = [x - y for x, y in zip(ranks(a), ranks(b), strict=True)]
        assert spearman(a, b) == pytest.approx(1 - 6 * sum(x * x for x in d) / (n * (n * n - 1)))


def test_spearman_at_its_ends():
    assert spearman([1, 2, 3], [10, 20, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([4], [2]) is None
    with pytest.raises(ValueError, match="3 and 2"):
        spearman([1, 2, 3], [1, 2])
    assert ranks([2.0, 1.0, 2.0, 2.0]) == [3.0, 1.0, 3.0, 3.0]


def test_normalisation_changes_the_overall_ranking_alone():
    """Two layers of opposite scale: each ranked right, together wrong, together right after l2."""
    oracle = {"a": (1.0, 4.0), "b": (2.0, 3.0)}
    found = correlate({"a": (100.0, 300.0), "b": (0.2, 0.4)}, oracle)
    assert found.per_group == {"a": pytest.approx(1), "b": pytest.approx(1)}
    assert found.per_layer == pytest.approx(1)
    assert found.overall == pytest.approx(0.4)
    assert found.overall_l2 == pytest.approx(1)


def test_a_layer_without_a_ranking_does_not_count_in_the_mean():
    found = correlate({"a": (1.0, 2.0), "b": (5.0, 5.0)}, {"a": (1.0, 2.0), "b": (1.0, 2.0)})
    assert found.per_group["b"] is None
    assert found.per_layer == pytest.approx(1)
