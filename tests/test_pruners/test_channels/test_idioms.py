"""Idioms of people's code: each is pruned right down to its floors, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.errors import SurgeryError, TraceError
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import Graph, trace
from pruners.plan import PruningPlan
from pruners.policy import Policy
from pruners.surgery import apply
from pruners.verify import verify

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Layers by name, and a function of them and the inputs."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, *inputs: Tensor) -> Any:
        return self._forward(self, *inputs)


def conv(n_in: int, n_out: int, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


def plan_of(graph: Graph, count: Callable[[int, int], int]) -> PruningPlan:
    """Keep ``count(min_units, n_units)`` units of each group, the last ones and the first ones in turn."""
    kept = {}
    for index, group in enumerate(group for group in graph.groups if group.prunable):
        n = count(group.min_units, group.n_units)
        kept[group.name] = tuple(range(n) if index % 2 else range(group.n_units - n, group.n_units))
    return PruningPlan.from_kept(
        kept,
        {name: graph.group(name).n_units for name in kept},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="test",
        settings={},
        policy=graph.policy,
    )


def shuffled(net: Net, x: Tensor) -> Tensor:
    return net.b(F.channel_shuffle(F.relu(net.a(x)), 2))


def best_tokens(net: Net, x: Tensor) -> Tensor:
    return net.b(net.a(x).topk(3, dim=1).values)


def squeezed(net: Net, x: Tensor) -> Tensor:
    return net.b(F.adaptive_avg_pool2d(F.relu(net.a(x)), 1).squeeze())


def correlated(net: Net, x: Tensor) -> Tensor:
    image, kernel = F.relu(net.a(x)), net.k(x)[:, :, :3, :3]
    n, c, *side = image.shape
    found = F.conv2d(image.reshape(1, n * c, *side), kernel.reshape(n * c, 1, 3, 3), groups=n * c, padding=1)
    return net.b(found.reshape(n, c, *side))


def cropped(net: Net, x: Tensor) -> Tensor:
    return net.b(F.pad(F.relu(net.a(x)), (0, 0, 0, 0, 0, -2)))


def normalised(net: Net, x: Tensor) -> Tensor:
    return net.b(F.normalize(net.a(x), dim=1))


def linear_attention(net: Net, x: Tensor) -> Tensor:
    query, key, value = F.elu(net.q(x)) + 1, F.elu(net.k(x)) + 1, net.v(x)
    return net.b(query @ (key.transpose(1, 2) @ value))


def softplus_weight(net: Net, x: Tensor) -> Tensor:
    return F.conv2d(F.softplus(net.a(x)), F.softplus(net.w.weight))


def masked_attention(net: Net, x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
    mask[:, 4] = True
    return net.b(net.a(x, x, x, key_padding_mask=mask, need_weights=False)[0])


def multi_query(net: Net, x: Tensor) -> Tensor:
    query = net.q(x).reshape(*x.shape[:2], 3, 4).transpose(1, 2)
    key, value = (layer(x)[:, None].expand(-1, 3, -1, -1) for layer in (net.k, net.v))
    return net.b((query @ key.transpose(2, 3)).softmax(-1) @ value).sum(1)


def transposed(net: Net, x: Tensor) -> Tensor:
    return net.b(net.a(x).mT.softmax(-1).mT)


def grouped_queries(net: Net, x: Tensor) -> Tensor:
    heads = [layer(x).unflatten(2, (-1, 4)).transpose(1, 2) for layer in (net.q, net.k, net.v)]
    return net.b(F.scaled_dot_product_attention(*heads, enable_gqa=True).transpose(1, 2).flatten(2))


def windows(net: Net, x: Tensor) -> Tensor:
    return net.b(F.unfold(net.slope(F.glu(net.a(x), 1)), 3, padding=1))


def sampled(net: Net, x: Tensor) -> Tensor:
    image = F.fold(net.a(x).flatten(2), x.shape[2:], 3, padding=1)
    return net.b(F.grid_sample(image, net.grid(x).permute(0, 2, 3, 1), align_corners=False))


def taken_apart(net: Net, x: Tensor) -> Tensor:
    one, two, three = net.a(x).unflatten(2, (3, 4)).unbind(2)
    return net.b(torch.cat([one[..., 2:] * two[..., 2:], F.relu(three[..., :2])], -1))


def grouped_by_factors(net: Net, x: Tensor) -> Tensor:
    return net.b(F.conv2d(net.a(x), (net.f.weight @ net.g.weight)[:, :, None, None], groups=4))


def rows_read_twice(net: Net, x: Tensor) -> Tensor:
    return net.b(F.relu(F.linear(net.e(x), net.e.weight)))


def largest(net: Net, x: Tensor) -> Tensor:
    value, position = net.a(x).max(1, keepdim=True)
    return net.b(value + position)


def deviating(net: Net, x: Tensor) -> Tensor:
    h = F.relu(net.a(x))
    return net.b(h / (h.std(1, keepdim=True) + 1))


def noisy(net: Net, x: Tensor) -> Tensor:
    return net.b(F.relu(net.a(x)) + 0.1 * torch.randn_like(x[:, :1]))


def compared(net: Net, x: Tensor) -> Tensor:
    left, right = net.a(x), net.b(x)
    return torch.cat([F.cosine_similarity(left, right, dim=-1)[..., None], torch.cdist(left, right)], -1)


def unpooled(net: Net, x: Tensor) -> Tensor:
    small, where = F.max_pool2d(net.a(x), 2, return_indices=True)
    return net.b(F.max_unpool2d(F.relu(small), where, 2))


def dotted(net: Net, x: Tensor) -> Tensor:
    return torch.einsum("...c,...dc->...d", net.a(x), net.b(x).reshape(*x.shape[:2], 3, 8))


def relative_positions(net: Net, x: Tensor) -> Tensor:
    n, length, _ = x.shape
    heads = net.a(x).reshape(n, length, 3, 4).transpose(1, 2).reshape(n * 3, length, 4)
    near = (torch.arange(length)[:, None] - torch.arange(4)).abs().clamp(max=3).expand(n * 3, length, 4)
    read = heads.gather(-1, near).reshape(n, 3, length, 4).transpose(1, 2)
    return net.b(read.reshape(n, length, -1))


def recurrent(net: Net, x: Tensor) -> Tensor:
    return net.b(net.r(net.a(x))[0])


def partly_biased(net: Net, x: Tensor) -> Tensor:
    bias = net.a.bias.clone()
    length = bias.numel() // 2
    bias[length:].zero_()
    left, right = F.linear(x, net.a.weight, bias).chunk(2, -1)
    return net.b(net.norm(left * right))


IDIOMS: dict[str, tuple[Net, Tensor, dict[str, int]]] = {
    "channel shuffle": (Net(shuffled, a=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 3}),
    "topk over tokens": (Net(best_tokens, a=nn.Linear(12, 8), b=nn.Linear(8, 4)), TOKENS, {"a": 1}),
    "squeeze after pooling": (Net(squeezed, a=conv(3, 8), b=nn.Linear(8, 4)), IMAGES, {"a": 2}),
    "cross correlation": (Net(correlated, a=conv(3, 8), k=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 1}),
    "part of a bias set to zero before a norm": (
        Net(partly_biased, a=nn.Linear(12, 16), norm=nn.LayerNorm(8), b=nn.Linear(8, 4)),
        TOKENS,
        {"a": 1},
    ),
    "normalised features": (Net(normalised, a=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 1}),
    "linear attention": (
        Net(linear_attention, q=nn.Linear(12, 8), k=nn.Linear(12, 8), v=nn.Linear(12, 6), b=nn.Linear(6, 4)),
        TOKENS,
        {"q": 1, "v": 1},
    ),
    "positive weights": (Net(softplus_weight, a=conv(3, 8), w=nn.Conv2d(8, 4, 3, bias=False)), IMAGES, {"a": 1}),
    "attention with a padding mask": (
        Net(masked_attention, a=nn.MultiheadAttention(12, 3, batch_first=True), b=nn.Linear(12, 4)),
        TOKENS,
        {"a": 2},
    ),
    "multi-query attention": (
        Net(multi_query, q=nn.Linear(12, 12), k=nn.Linear(12, 4), v=nn.Linear(12, 4), b=nn.Linear(4, 4)),
        TOKENS,
        {"q": 2},
    ),
    "attention of grouped queries": (
        Net(grouped_queries, q=nn.Linear(12, 24), k=nn.Linear(12, 12), v=nn.Linear(12, 12), b=nn.Linear(24, 4)),
        TOKENS,
        {"q": 2},
    ),
    "convolution of few groups": (
        Net(lambda net, x: net.b(net.g(net.a(x))), a=conv(3, 8), g=conv(8, 8, groups=2), b=conv(8, 4)),
        IMAGES,
        {"a": 2},
    ),
    "norm of few groups": (
        Net(lambda net, x: net.b(net.g(net.a(x))), a=conv(3, 8), g=nn.GroupNorm(2, 8), b=conv(8, 4)),
        IMAGES,
        {"a": 2},
    ),
    "windows of a gated map": (
        Net(windows, a=conv(3, 12), slope=nn.PReLU(6), b=nn.Conv1d(54, 4, 1)),
        IMAGES,
        {"a": 1},
    ),
    "samples of a sum of windows": (
        Net(sampled, a=conv(3, 54), grid=conv(3, 2), b=conv(6, 4)),
        IMAGES,
        {"a": 1},
    ),
    "taken apart and joined": (Net(taken_apart, a=nn.Linear(12, 12), b=nn.Linear(4, 4)), TOKENS, {"a": 1}),
    "grouped convolution by a product of weights": (
        Net(grouped_by_factors, a=conv(3, 8), f=nn.Linear(5, 8), g=nn.Linear(2, 5), b=conv(8, 4)),
        IMAGES,
        {"a": 2},
    ),
    "rows looked up and multiplied by": (
        Net(rows_read_twice, e=nn.Embedding(10, 6), b=nn.Linear(10, 4)),
        torch.arange(10).reshape(2, 5),
        {"e": 1},
    ),
    "mT": (Net(transposed, a=nn.Linear(12, 8), b=nn.Linear(8, 4)), TOKENS, {"a": 1}),
    "deviation over channels": (Net(deviating, a=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 2}),
    "noise": (Net(noisy, a=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 1}),
    "distances": (Net(compared, a=nn.Linear(12, 8), b=nn.Linear(12, 8)), TOKENS, {"a": 1}),
    "max unpooling": (Net(unpooled, a=conv(3, 8), b=conv(8, 4)), IMAGES, {"a": 1}),
    "einsum with an ellipsis": (Net(dotted, a=nn.Linear(12, 8), b=nn.Linear(12, 24)), TOKENS, {"a": 1}),
    "heads read by relative position": (
        Net(relative_positions, a=nn.Linear(12, 12), b=nn.Linear(12, 4)),
        TOKENS,
        {"a": 1},
    ),
    "projected recurrent layer": (
        Net(
            recurrent,
            a=nn.Linear(12, 8),
            r=nn.LSTM(8, 6, proj_size=4, bidirectional=True, batch_first=True),
            b=nn.Linear(8, 4),
        ),
        TOKENS,
        {"a": 1},
    ),
}

DEAR = (
    "attention with a padding mask",
    "taken apart and joined",
    "samples of a sum of windows",
    "projected recurrent layer",
    "multi-query attention",
    "heads read by relative position",
    "linear attention",
)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEAR)) for name in IDIOMS])
def test_it_is_pruned_right_down_to_its_floor(name):
    net, inputs, floors = IDIOMS[name]
    net = net.eval()
    graph = trace(net, (inputs,))
    assert {group.name: group.min_units for group in graph.groups if group.prunable}.items() >= floors.items()
    for count in (lambda least, _: least, lambda least, whole: max(least, whole - 1)):
        plan = plan_of(graph, count)
        for form in ("auto", "graph"):
            compact = apply(net, plan, graph=graph, form=form)
            assert verify(net, plan, compact, graph=graph).relative_error < 1e-4
        again = trace(compact, (inputs,), policy=graph.policy)
        counts = {group: len(kept) for group, kept in plan.kept.items()}
        assert (again.macs(), again.parameters()) == (graph.macs(counts), graph.parameters(counts))


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (Net(cropped, a=conv(3, 8), b=conv(6, 4)), "cuts positions"),
        (Net(largest, a=conv(3, 8), b=conv(1, 4)), "positions of it"),
    ],
    ids=["crop", "argument of the maximum"],
)
def test_what_can_not_shrink_says_why(net, word):
    group = trace(net.eval(), (IMAGES,)).group("a")
    assert word in group.fixed


def test_equal_pieces_shrink_alike_so_that_code_goes_on_cutting_them():
    def forward(net: Net, x: Tensor) -> Tensor:
        left, right = net.a(x).chunk(2, 1)
        return net.b(F.relu(left)) + net.c(right)

    net = Net(forward, a=conv(3, 8), b=conv(4, 4), c=conv(4, 4)).eval()
    graph = trace(net, (IMAGES,))
    assert {group.name: group.n_units for group in graph.groups if group.prunable} == {"a": 4}
    assert type(apply(net, plan_of(graph, lambda least, _: least), graph=graph, form="module")) is Net


def test_a_size_that_depends_on_values_is_one_line():
    net = Net(lambda net, x: net.b(net.a(x)[net.a(x) > 0].reshape(-1, 1)).sum(), a=nn.Linear(12, 8), b=nn.Linear(1, 4))
    with pytest.raises(TraceError, match="depends on values") as caught:
        trace(net.eval(), (TOKENS,))
    assert "\n" not in str(caught.value)


class RootAttention(nn.Module):
    """Attention whose scale torch takes from the size of a head, in the network's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 8) for _ in range(3))
        self.o = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        heads = [layer(x)[:, None] for layer in (self.q, self.k, self.v)]
        mixed: Tensor = self.o(F.scaled_dot_product_attention(*heads)[:, 0])
        return mixed


def test_a_scale_that_torch_takes_from_the_head_is_never_lost():
    torch.manual_seed(0)
    net = RootAttention().eval()
    graph = trace(net, (TOKENS,), policy=Policy(attention="head_size"))
    plan = plan_of(graph, lambda least, whole: max(least, whole // 2))
    compact = apply(net, plan, graph=graph)
    assert isinstance(compact, GraphNetwork)
    verify(net, plan, compact, graph=graph)


def test_the_graph_form_refuses_inputs_of_other_sizes():
    net = Net(lambda net, x: net.b(F.relu(net.a(x)).flatten(1)), a=conv(3, 8), b=nn.Linear(512, 4)).eval()
    graph = trace(net, (IMAGES,))
    compact = apply(net, plan_of(graph, lambda least, _: least), graph=graph, form="graph")
    assert compact(IMAGES[:1]).shape == (1, 4)
    with pytest.raises(SurgeryError, match=r"does not run on inputs of shape \[2, 3, 16, 16\]"):
        compact(torch.zeros(2, 3, 16, 16))


def test_the_graph_form_trains_without_gradients_where_the_network_does():
    def forward(net: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = F.relu(net.a(x))
        return net.o(F.relu(net.b(features)))

    net = Net(forward, a=conv(3, 8), b=conv(8, 8), o=conv(8, 4)).train()
    graph = trace(net, (IMAGES,))
    compact = apply(net, plan_of(graph, lambda _, whole: whole // 2), graph=graph, form="graph").train()
    compact(IMAGES).sum().backward()
    assert compact.get_parameter("a.weight").grad is None
    assert compact.get_parameter("b.weight").grad is not None


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weights_that_a_hook_computes_do_not_stop_the_trace():
    net = Net(lambda net, x: net.b(F.relu(net.a(x))), a=nn.utils.weight_norm(conv(3, 8)), b=conv(8, 4))
    graph = trace(net, (IMAGES,))
    plan = plan_of(graph, lambda _, whole: whole // 2)
    verify(net, plan, apply(net, plan, graph=graph), graph=graph)


def test_a_network_of_single_channels_has_no_groups():
    graph = trace(nn.Conv1d(1, 1, 1).eval(), (torch.zeros(2, 1, 4),))
    assert not any(group.prunable for group in graph.groups)
    assert graph.macs() == 4


def test_an_empty_tensor_holds_no_channels():
    def forward(net: Net, x: Tensor) -> Tensor:
        mask = x.new_zeros(8, 8)
        mask[0:-8] = 3.0  # no row: windows as large as the image are not shifted
        return net.o(F.relu(net.a(x)) + mask)

    net = Net(forward, a=conv(3, 8), o=conv(8, 4)).eval()
    plan = plan_of(trace(net, (IMAGES,)), lambda _, whole: whole // 2)
    verify(net, plan, apply(net, plan))
