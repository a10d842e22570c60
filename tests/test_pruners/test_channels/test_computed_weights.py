"""Weights that a network computes from others: what is exact, and what a criterion sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from pruners import Target
from pruners.errors import PruneError
from pruners.graph import trace
from pruners.importance.criteria import create_criterion
from pruners.importance.evidence import Evidence
from pruners.modules.copies import copy_of
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints
from pruners.task import PruningTask
from pruners.verify import verify

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight|spectral)_norm. is deprecated:FutureWarning")
X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Computed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, weight):
        return self.function(weight)


class OfWeights(nn.Module):
    """A layer without a class of its own: 8 channels in, 16 out."""

    def __init__(self, function, *shapes):
        super().__init__()
        self.weights, self.function = nn.ParameterList(torch.randn(shape) for shape in shapes), function

    def forward(self, x):
        return self.function(x.mean((2, 3)), *self.weights)[:, :, None, None]


def conv(*sizes, **options):
    return nn.Conv2d(*sizes, 3, padding=1, **options)


def made(function, layer=None):
    layer = layer or conv(8, 16)
    parametrize.register_parametrization(layer, "weight", Computed(function))
    return layer


def by_deviation(weight):
    return (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)


def demodulated(x, weight, style):
    weight = weight * style.square().sum(0)
    return x @ (weight * torch.rsqrt(weight.square().sum(1, keepdim=True))).T


# Layer, whether the channels it reads are exact, whether those it makes are; None where they are left whole.
KINDS = {
    "plain": (lambda: conv(8, 16), True, True),
    "spectral norm": (lambda: parametrizations.spectral_norm(conv(8, 16)), False, False),
    "spectral norm by hook": (lambda: nn.utils.spectral_norm(conv(8, 16)), False, False),
    "spectral norm, transposed": (
        lambda: parametrizations.spectral_norm(nn.ConvTranspose2d(8, 16, 3, padding=1)),
        False,
        False,
    ),
    "weight norm of rows": (lambda: parametrizations.weight_norm(conv(8, 16)), False, True),
    "weight norm of columns": (lambda: parametrizations.weight_norm(conv(8, 16), dim=1), True, False),
    "weight norm of all": (lambda: parametrizations.weight_norm(conv(8, 16), dim=None), False, False),
    "weight norm by hook": (lambda: nn.utils.weight_norm(conv(8, 16), dim=None), False, False),
    "orthogonal": (lambda: parametrizations.orthogonal(conv(8, 16)), None, None),
    "standardised": (lambda: made(by_deviation), False, True),
    "standardised as timm does": (
        lambda: made(lambda w: F.batch_norm(w.reshape(1, 16, -1), None, None, training=True).reshape(w.shape)),
        False,
        True,
    ),
    "centred over its rows": (lambda: made(lambda w: w - w.mean(0, keepdim=True)), True, False),
    "Gram matrix": (lambda: made(lambda w: (w.flatten(1) @ w.flatten(1).T @ w.flatten(1)).view(w.shape)), False, False),
    "Gram matrix by einsum": (
        lambda: made(lambda w: torch.einsum("oikl,pikl,pjmn->ojmn", w, w, w)),
        False,
        False,
    ),
    "Frobenius norm": (lambda: made(lambda w: w / torch.linalg.norm(w)), False, False),
    "norm of rows": (
        lambda: made(lambda w: w / torch.linalg.norm(w.flatten(1), dim=1)[:, None, None, None]),
        False,
        True,
    ),
    "spectral norm by singular values": (
        lambda: made(lambda w: w / torch.linalg.matrix_norm(w.flatten(1), 2)),
        None,
        None,
    ),
    "root of an einsum": (
        lambda: made(lambda w: w / torch.einsum("oikl,oikl->o", w, w).sqrt()[:, None, None, None]),
        False,
        True,
    ),
    "rounded by its largest entry": (lambda: made(lambda w: torch.round(9 * w / w.abs().max()) / 9), False, False),
    "softmax over rows": (lambda: made(lambda w: w.softmax(0)), True, None),
    "normalised features": (
        lambda: OfWeights(lambda x, w: F.linear(F.normalize(x), F.normalize(w)), (16, 8)),
        False,
        True,
    ),
    "cosines": (lambda: OfWeights(lambda x, w: F.cosine_similarity(x[:, None], w, dim=-1), (16, 8)), False, None),
    "distances": (lambda: OfWeights(torch.cdist, (16, 8)), False, True),
    "factors": (lambda: OfWeights(lambda x, a, b: F.linear(x, a @ b), (16, 6), (6, 8)), True, True),
    "demodulated": (lambda: OfWeights(demodulated, (16, 8), (5, 8)), False, True),
    "positive": (lambda: made(F.softplus), True, True),
}


def network(kind):
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, 8), nn.ReLU(), KINDS[kind][0](), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(16, 5)).train()
    for _ in range(3):  # power iterations
        net(X)
    return net.eval()


def every_second(graph, group):
    return PruningPlan.from_kept(
        {group.name: tuple(range(0, group.n_units, 2))},
        {group.name: group.n_units},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="test",
        settings={},
        policy=graph.policy,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_said_only_of_what_leaves_the_kept_channels_as_they_are(kind, with_masked_maps):
    net = network(kind)
    graph = trace(net, (X,))
    of = {name.partition(".")[0]: group for group in reversed(graph.groups) if (name := group.name)}
    for name, exact in (("0", KINDS[kind][1]), ("2", KINDS[kind][2])):
        if exact is None:
            assert name not in of or of[name].fixed
        else:
            assert (of[name].prunable, of[name].exact) == (True, exact)
    for group in (group for group in graph.groups if group.prunable):
        plan = every_second(graph, group)
        compact = apply(net, plan, graph=graph)
        assert verify(net, plan, compact, graph=graph).relative_error < 1e-4
        rank = kind == "factors" and group.n_units == 6  # a unit without a feature map
        if group.exact and not rank:
            assert torch.allclose(with_masked_maps(graph, plan, X), compact(X), atol=1e-5)


def test_exact_only_leaves_a_spectral_norm_whole():
    net = network("spectral norm")

    def prune(exact_only, exclude=()):
        constraints = Constraints(exact_only=exact_only, exclude=exclude)
        target = Target(of="params", kept_fraction=0.7)
        task = PruningTask(model=net, example_inputs=(X,), target=target, constraints=constraints)
        return create("uniform").prune(task)

    pruned = prune(exact_only=False)
    assert pruned.verification["reference"] == "masked values"
    pruned.model.train()(X).sum().backward()  # its power iteration goes on
    with pytest.raises(PruneError):
        prune(exact_only=True)


def masked_network():
    torch.manual_seed(0)
    net = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 16), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    net.append(nn.Flatten()).append(nn.Linear(16, 5))
    prune.ln_structured(net[2], "weight", 0.5, n=1, dim=0)
    nn.init.uniform_(net[3].weight, 0.5, 1.5)
    prune.random_unstructured(net[3], "weight", 0.3)
    prune.global_unstructured([(net[0], "weight"), (net[7], "weight")], prune.RandomUnstructured, amount=0.3)
    return net.eval()


@pytest.mark.parametrize(
    "criterion", ["l1", "l2", "min_weight", "fpgm", "taylor_fo", "activation_mean", "apoz", "bn_scale", "taylor_fo_bn"]
)
def test_a_criterion_sees_masked_weights_as_the_layers_do(criterion):
    net = masked_network()
    removed = copy_of(net)
    for layer in (removed[0], removed[2], removed[3], removed[7]):
        prune.remove(layer, "weight")
    scores, groups = [], ("2",) if criterion.startswith("bn") or criterion.endswith("bn") else ("0", "2")
    for one in (net, removed):
        batches = [(X, torch.tensor([0, 1]))]
        evidence = Evidence(model=one, graph=trace(one, (X,)), groups=groups, batches=batches, loss=F.cross_entropy)
        scores.append(create_criterion(criterion).scores(evidence))
    assert scores[0].keys() == scores[1].keys()
    for name, values in scores[0].items():
        assert values == pytest.approx(scores[1][name], rel=1e-4, abs=1e-7)


def test_l1_removes_the_filters_that_are_masked_first():
    net = masked_network()
    task = PruningTask(model=net, example_inputs=(X,), target=Target(of="ratios", ratios={"2": 0.5}))
    pruned = create("l1").prune(task)
    alive = net[2].weight_mask.flatten(1).any(1).nonzero().flatten().tolist()
    assert list(pruned.plan.kept["2"]) == alive
    assert isinstance(pruned.model, nn.Sequential)
    assert pruned.model[2].weight_mask.shape == (8, 8, 3, 3)
