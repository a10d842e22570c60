"""Operators with weights of their own kind: each is pruned down to its floors, in both forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from pruners.graph import trace
from pruners.surgery import apply
from pruners.verify import verify

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))


class Deformed(nn.Module):
    def __init__(self, offset_groups=1, groups=1, mask=True):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.offset = nn.Conv2d(3, offset_groups * 18, 3, padding=1)
        self.mask = nn.Conv2d(3, offset_groups * 9, 3, padding=1) if mask else None
        self.deformed = DeformConv2d(8, 12, 3, padding=1, groups=groups)
        self.head = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        mask = None if self.mask is None else torch.sigmoid(self.mask(x))
        return self.head(F.relu(self.deformed(F.relu(self.a(x)), self.offset(x), mask)))


class Paired(nn.Module):
    """Products of pairs of two features, by a layer of torch or by an einsum of three operands."""

    def __init__(self, equation=None):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(12, 8), nn.Linear(12, 6), nn.Linear(10, 3)
        self.equation = equation
        self.pairs = nn.Bilinear(8, 6, 10) if equation is None else nn.Parameter(torch.randn(8, 6, 10))

    def forward(self, x):
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        both = self.pairs(a, b) if self.equation is None else torch.einsum(self.equation, a, self.pairs, b)
        return self.head(F.relu(both))


NETWORKS = {
    "deformable": (Deformed, IMAGES, {"a": 8, "deformed": 12}),
    "deformable without mask": (lambda: Deformed(mask=False), IMAGES, {"a": 8, "deformed": 12}),
    "deformable with offset groups": (lambda: Deformed(offset_groups=2), IMAGES, {"a": 4, "deformed": 12}),
    "deformable with groups": (lambda: Deformed(groups=2), IMAGES, {"a": 4, "deformed": 6}),
    "bilinear": (Paired, TOKENS, {"a": 8, "b": 6, "pairs": 10}),
    "einsum of three": (lambda: Paired("bti,ijk,btj->btk"), TOKENS, {"a": 8, "b": 6, "pairs": 10}),
    "einsum with an ellipsis": (lambda: Paired("...i,ijk,...j->...k"), TOKENS, {"a": 8, "b": 6, "pairs": 10}),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] * (name in {"einsum of three", "einsum with an ellipsis", "bilinear"})
        )
        for name in NETWORKS
    ],
)
def test_it_is_pruned_right_down_to_its_floors(name, plan_for):
    make, inputs, units = NETWORKS[name]
    torch.manual_seed(0)
    net = make().eval()
    graph = trace(net, (inputs,))
    assert {group.name: group.n_units for group in graph.groups if group.prunable} == units
    for removed in (0.4, 1):
        plan = plan_for(graph, removed)
        counts = {group: len(kept) for group, kept in plan.kept.items()}
        for form in ("module", "graph"):
            compact = apply(net, plan, graph=graph, form=form)
            assert verify(net, plan, compact, graph=graph).relative_error < 1e-4
            again = trace(compact, (inputs,), policy=graph.policy)
            assert (again.macs(), again.parameters()) == (graph.macs(counts), graph.parameters(counts))


def test_positions_that_a_convolution_reads_stay():
    graph = trace(Deformed().eval(), (IMAGES,))
    assert all("reads positions" in graph.group(name).fixed for name in ("offset", "mask"))


class ShuffleUnit(nn.Module):
    """Zhang et al., "ShuffleNet", CVPR 2018, arXiv:1707.01083, figure 2."""

    def __init__(self, n_in, n_out, groups, down, first=False):
        super().__init__()
        middle, made = n_out // 4, n_out - n_in if down else n_out
        self.down, self.groups = down, groups
        self.a = nn.Conv2d(n_in, middle, 1, groups=1 if first else groups, bias=False)
        self.b = nn.Conv2d(middle, middle, 3, 2 if down else 1, 1, groups=middle, bias=False)
        self.c = nn.Conv2d(middle, made, 1, groups=groups, bias=False)

    def forward(self, x):
        y = F.relu(self.a(x))
        n, c, *side = y.shape
        y = y.view(n, self.groups, c // self.groups, *side).transpose(1, 2).reshape(n, c, *side)
        y = self.c(self.b(y))
        return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1) if self.down else x + y)


@pytest.mark.parametrize(("groups", "widths"), [(3, (60,)), (3, (60, 120)), (3, (240, 480)), (2, (200,))])
def test_a_shuffle_that_crosses_its_groups_loses_whole_multiples_and_bottlenecks(groups, widths, plan_for):
    layers, width = [nn.Conv2d(3, 24, 3, 2, 1)], 24
    for place, wide in enumerate(widths):
        layers += [ShuffleUnit(width, wide, groups, True, first=place == 0), ShuffleUnit(wide, wide, groups, False)]
        width = wide
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)).eval()
    graph = trace(net, (IMAGES,))
    assert graph.group("0").n_units >= 2 and graph.group("0").prunable
    assert [block.name for block in graph.blocks] == [str(2 * place + 2) for place in range(len(widths))]
    plan = plan_for(graph, 0.5)
    assert apply(net, plan, graph=graph)(IMAGES).shape == (2, 5)
    whole = plan.model_copy(update={"kept": {}, "sizes": {}, "blocks": (graph.blocks[0].name,)})
    assert apply(net, whole, graph=graph)(IMAGES).shape == (2, 5)
