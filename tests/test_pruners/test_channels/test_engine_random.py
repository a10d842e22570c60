"""Property tests: random small networks, random plans."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torchvision.ops import DeformConv2d

from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.policy import Policy
from pruners.surgery import apply
from pruners.verify import verify

pytestmark = pytest.mark.long

KINDS = [
    "conv",
    "bn",
    "relu",
    "hardswish",
    "depthwise",
    "grouped",
    "add",
    "cat",
    "shuffle",
    "se",
    "pool",
    "split",
    "pad",
    "unequal",
    "groupnorm",
    "transposed",
    "baked",
    "computed",
    "deformed",
    "shuffled",
]


class Weight(nn.Module):
    """A parametrisation by a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, weight):
        return self.function(weight)


def of_weight(function):
    return lambda layer: parametrize.register_parametrization(layer, "weight", Weight(function))


COMPUTED = (
    parametrizations.spectral_norm,
    parametrizations.weight_norm,
    lambda layer: parametrizations.weight_norm(layer, dim=1),
    lambda layer: parametrizations.weight_norm(layer, dim=None),
    lambda layer: parametrizations.orthogonal(layer, orthogonal_map="householder"),
    lambda layer: prune.random_structured(layer, "weight", 0.3, dim=0),
    of_weight(lambda w: (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)),
    of_weight(lambda w: F.batch_norm(w.flatten(1)[None], None, None, training=True).view_as(w)),
    of_weight(lambda w: w - w.mean(0, keepdim=True)),
    of_weight(lambda w: (w.flatten(1) @ w.flatten(1).T @ w.flatten(1)).view_as(w) / 10),
    of_weight(lambda w: w / torch.linalg.norm(w)),
    of_weight(lambda w: w / torch.einsum("oikl,oikl->i", w, w).sqrt()[:, None, None]),
)


class Deformed(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.offset = nn.Conv2d(channels, groups * 18, 3, padding=1)
        self.layer = DeformConv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.layer(x, 0.1 * self.offset(x))


class Squeeze(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class RandomNet(nn.Module):
    """A chain of steps; `add` and `cat` reach back to earlier values of the same resolution."""

    def __init__(self, steps, flatten):
        super().__init__()
        self.steps, self.layers, self.flatten, self.widths = steps, nn.ModuleList(), flatten, ()
        channels = 8
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        for kind, back in steps:
            out = channels
            layer = nn.Identity()
            if kind == "conv":
                out = 6 + 2 * (back % 4)
                layer = nn.Conv2d(channels, out, 3, padding=1)
            elif kind == "bn":
                layer = nn.BatchNorm2d(channels)
            elif kind == "depthwise":
                layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
            elif kind == "grouped" and channels % 4 == 0:
                out, groups = (8, 4) if back % 2 else (12, 2)
                layer = nn.Conv2d(channels, out, 3, padding=1, groups=groups)
            elif kind == "groupnorm":
                layer = nn.GroupNorm((1, 2)[back % 2] if channels % 2 == 0 else 1, channels)
            elif kind == "transposed" and channels % 2 == 0:
                layer = nn.ConvTranspose2d(channels, channels, 1, groups=1 + back % 2)
            elif kind == "add":
                layer = nn.Conv2d(channels, channels, 1)
            elif kind == "computed":
                out = 6 + 2 * (back % 4)
                layer = COMPUTED[back](nn.Conv2d(channels, out, 3, padding=1))
            elif kind == "shuffled" and channels % (2 + back % 2) == 0:
                out, groups = 12, 2 + back % 2
                layer = nn.Conv2d(channels, out, 1, groups=groups)
            elif kind == "deformed":
                layer = Deformed(channels, 1 + (back % 2 if channels % 2 == 0 else 0))
            elif kind == "cat":
                layer = nn.Conv2d(channels, 4, 1)
                out = channels + 4
            elif kind == "se":
                layer = Squeeze(channels)
            elif kind == "split" and channels % 2 == 0:
                layer = nn.Conv2d(channels // 2, channels // 2, 1)
            elif kind == "pad":
                out = channels + 2
            self.layers.append(layer)
            self.widths = (*self.widths, channels)
            channels = out
        self.head = nn.Linear(channels * (4 if flatten else 1), 3)

    def forward(self, x):
        x = self.stem(x)
        for (kind, back), layer in zip(self.steps, self.layers, strict=True):
            if kind == "relu":
                x = F.relu(x, inplace=True)
            elif kind == "hardswish":
                x = F.hardswish(x)
            elif kind == "add":
                x = x + F.silu(layer(x))
            elif kind == "cat":
                x = torch.cat([layer(x), x], 1)
            elif kind == "shuffle" and x.shape[1] % 2 == 0:
                b, c, h, w = x.shape
                x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
            elif kind == "shuffled" and isinstance(layer, nn.Conv2d):  # by as many groups as its own, or others
                x = F.channel_shuffle(layer(x), 2 + back // 2 % 3)
            elif kind == "pool":
                x = F.max_pool2d(x, 3, 1, 1)
            elif kind == "split" and x.shape[1] % 2 == 0:
                left, right = x.chunk(2, 1)
                x = torch.cat([left, layer(right)], 1)
            elif kind == "pad":
                x = F.pad(x, (0, 0, 0, 0, 1, 1))
            elif kind == "unequal":
                first, second, third = x.split([1, 2, x.shape[1] - 3], 1)
                x = torch.cat([third, F.relu(first), second], 1)
            elif kind == "baked":
                width = next(width for at, width in zip(self.layers, self.widths, strict=True) if at is layer)
                x = x.reshape(-1, width, 36).transpose(1, 2).reshape(-1, 6, 6, width).permute(0, 3, 1, 2)
            else:
                x = layer(x)
        x = F.adaptive_avg_pool2d(x, 2 if self.flatten else 1)
        return self.head(x.flatten(1))


@st.composite
def networks(draw):
    torch.manual_seed(draw(st.integers(0, 99)))
    return RandomNet(draw(steps), draw(st.booleans()))


steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, len(COMPUTED) - 1)), min_size=1, max_size=8)


def drawn(n_examples):
    return settings(max_examples=n_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("n_examples", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_masked_equals_compact_on_random_networks(n_examples, with_masked_maps):
    @drawn(n_examples)
    @given(networks(), st.data())
    def check(model, data):
        check_plans(model, torch.randn(2, 3, 6, 6), data, with_masked_maps)

    check()


class RandomTokens(nn.Module):
    """A chain of steps on sequences: attention by hand, gates, products of pairs, norms, residuals."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.layers, self.heads = steps, nn.ModuleList(), 3
        self.stem = nn.Linear(5, 12)
        self.tokens = nn.Parameter(torch.randn(1, 1, 12))
        for kind, back in steps:
            layer = nn.Module()
            layer.norm = nn.LayerNorm(12) if back % 2 else nn.RMSNorm(12)
            if kind == "attention":
                layer.qkv, layer.out = nn.Linear(12, 36), nn.Linear(12, 12)
            elif kind == "glu":
                layer.up, layer.down = nn.Linear(12, 20), nn.Linear(10, 12)
            elif kind == "pairs":
                layer.left, layer.right, layer.pairs = nn.Linear(12, 5), nn.Linear(12, 4), nn.Bilinear(5, 4, 12)
            elif kind == "scale":
                layer.scale = nn.Parameter(torch.randn(12))
            self.layers.append(layer)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), self.stem(x)], 1)
        for (kind, back), layer in zip(self.steps, self.layers, strict=True):
            y = layer.norm(x)
            if kind == "attention":
                b, n, _ = y.shape
                q, k, v = layer.qkv(y).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
                if back < 2:
                    y = F.scaled_dot_product_attention(q, k, v)
                else:
                    y = ((q @ k.transpose(-2, -1)) * 0.5).softmax(-1) @ v
                y = layer.out(y.transpose(1, 2).flatten(2))
            elif kind == "glu":
                gate, value = layer.up(y).chunk(2, -1)
                y = layer.down(F.silu(gate) * value)
            elif kind == "pairs":
                left, right = layer.left(y), layer.right(y)
                if back < 2:
                    y = layer.pairs(left, right)
                else:
                    y = torch.einsum("bti,oij,btj->bto", left, layer.pairs.weight, right)
            elif kind == "scale":
                y = y * layer.scale
            elif kind == "normalize":
                y = F.normalize(y, dim=-1)
            x = x + y if back else y
        return self.head(x[:, 0])


token_steps = st.lists(
    st.tuples(st.sampled_from(["attention", "glu", "pairs", "scale", "normalize", "norm"]), st.integers(0, 3)),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("n_examples", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_masked_equals_compact_on_random_token_networks(n_examples, with_masked_maps):
    @drawn(n_examples)
    @given(token_steps, st.sampled_from(["heads", "head_size"]), st.integers(0, 99), st.data())
    def check(steps, attention, seed, data):
        torch.manual_seed(seed)
        check_plans(RandomTokens(steps), torch.randn(2, 4, 5), data, with_masked_maps, Policy(attention=attention))

    check()


def check_plans(model, x, data, with_masked_maps, policy=None):
    """Draw a plan and a second one for what it leaves: masked equals compact, and costs are what was foretold.

    What is exact leaves the maps of the kept channels as they are.
    """
    model.eval()
    graph = trace(model, (x,), policy=policy)
    plan = draw_plan(graph, data)
    assert PruningPlan.model_validate_json(plan.model_dump_json()) == plan
    if not plan.removed_units:
        return
    compact = apply(model, plan, graph=graph, check=False, form=data.draw(st.sampled_from(["auto", "graph"])))
    assert verify(model, plan, compact, graph=graph).relative_error < 1e-5
    exact = [name for name in plan.kept if graph.group(name).exact and plan.removed(name)]
    if exact:
        chosen = {"kept": {n: plan.kept[n] for n in exact}, "sizes": {n: plan.sizes[n] for n in exact}}
        part = plan.model_copy(update=chosen)
        of_part = compact
        if any(plan.removed(name) for name in plan.kept if name not in exact):
            of_part = apply(model, part, graph=graph, check=False, form="graph")
        expected = with_masked_maps(graph, part, x)
        assert (of_part(x) - expected).abs().max() < 1e-4 * expected.abs().max()
    counts = {name: len(units) for name, units in plan.kept.items()}
    again = trace(compact, (x,), policy=graph.policy)
    assert again.macs() == graph.macs(counts)
    assert again.parameters() == graph.parameters(counts)

    left = trace(compact, (x,), after=(graph, plan))
    assert left.policy == graph.policy
    names = {group.name for group in graph.groups}
    own = [group.name for group in left.groups if group.name in names]
    assert len(set(own)) == len(own)
    later = draw_plan(left, data, own)
    if later.removed_units:
        twice = apply(compact, later, graph=left, check=False).state_dict()
        at_once = apply(model, plan.then(later), graph=graph, check=False).state_dict()
        assert all(torch.equal(tensor, at_once[name]) for name, tensor in twice.items())


def draw_plan(graph, data, names=None):
    kept = {}
    for group in graph.groups:
        if group.prunable and (names is None or group.name in names):
            # A norm across one or two channels divides by next to nothing, and shows rounding only.
            least = group.min_units if group.exact else max(group.min_units, min(3, group.n_units))
            units = st.sets(st.integers(0, group.n_units - 1), min_size=least)
            kept[group.name] = tuple(sorted(data.draw(units)))
    sizes = {group.name: group.n_units for group in graph.groups}
    return PruningPlan.from_kept(
        kept,
        sizes,
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="drawn",
        settings={"seed": 1},
        policy=graph.policy,
    )


@given(st.integers(2, 12), st.data())
def test_composing_plans_picks_survivors_of_survivors(n_units, data):
    first = tuple(sorted(data.draw(st.sets(st.integers(0, n_units - 1), min_size=1))))
    second = tuple(sorted(data.draw(st.sets(st.integers(0, len(first) - 1), min_size=1))))

    def plan(kept, size):
        return PruningPlan(graph="x", inputs=(), method="m", sizes={"g": size}, kept={"g": kept})

    assert plan(first, n_units).then(plan(second, len(first))).kept["g"] == tuple(first[i] for i in second)
