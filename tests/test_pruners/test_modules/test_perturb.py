"""Layers whose forward is not their parent's: woken as they compute, pruned, and still checked."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import VerificationError
from pruners.graph import trace
from pruners.modules.calls import NetworkCall
from pruners.modules.perturb import randomize_for_sensitivity
from pruners.surgery import apply
from pruners.verify import verify


class Pair(nn.Linear):
    factor = 2.0

    def forward(self, x):
        y = super().forward(x)
        return y, y * self.factor


class Named(nn.Linear):
    factor = 1.0

    def forward(self, x, *, scale):
        return {"y": super().forward(x) * scale * self.factor}


class Shuffled(nn.Conv2d):
    factor = 1.0

    def forward(self, x):
        return F.pixel_shuffle(super().forward(x), 2) * self.factor


class Last(nn.Conv2d):
    factor = 1.0

    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * self.factor


class Gained(nn.BatchNorm2d):
    factor = 1.0

    def forward(self, *, image, gain):
        return super().forward(image) * gain * self.factor


class LastNorm(nn.BatchNorm2d):
    factor = 1.0

    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * self.factor


class Sum(nn.Linear):
    factor = 1.0

    def forward(self, *several):
        return super().forward(sum(several)) * self.factor


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, flat = kind, kind in (Pair, Named, Sum)
        self.a = nn.Linear(8, 16) if flat else nn.Conv2d(3, 16, 1)
        layers = {Shuffled: (16, 32, 1), Last: (16, 8, 3), Gained: (16,), LastNorm: (16,)}
        self.odd = kind(*layers.get(kind, (16, 24)))
        self.h = nn.Linear(24 if flat else 8 if kind in (Shuffled, Last) else 16, 4)

    def forward(self, x):
        x = F.relu(self.a(x))
        match self.kind:
            case k if k is Pair:
                first, second = self.odd(x)
                return self.h(F.relu(first) + second)
            case k if k is Named:
                return self.h(F.relu(self.odd(x, scale=0.5)["y"]))
            case k if k is Sum:
                return self.h(F.relu(self.odd(x, x, x)))
            case k if k is Gained:
                return self.h(F.relu(self.odd(image=x, gain=1.5)).mean((2, 3)))
            case k if k in (Last, LastNorm):
                return self.h(F.relu(self.odd(x.permute(0, 2, 3, 1))).mean((1, 2)))
            case _:
                return self.h(F.relu(self.odd(x)).mean((2, 3)))


@pytest.mark.parametrize("kind", [Pair, Named, Shuffled, Last, Gained, LastNorm, Sum])
def test_a_layer_of_ones_own_is_pruned_and_a_mistake_in_it_seen(kind, plan_for):
    torch.manual_seed(0)
    model = Net(kind).eval()
    x = torch.randn(2, 8) if isinstance(model.a, nn.Linear) else torch.randn(2, 3, 8, 8)
    graph = trace(model, (x,))
    plan = plan_for(graph)
    compact = apply(model, plan, graph=graph)
    assert type(compact) is Net
    compact.odd.factor *= 1.01
    with pytest.raises(VerificationError, match="masked and compact network differ"):
        verify(model, plan, compact, graph=graph)


@pytest.mark.parametrize("kind", [Pair, Last, LastNorm])
def test_its_output_spreads_about_one_with_most_channels_alive(kind):
    torch.manual_seed(0)
    model = Net(kind).eval()
    with torch.no_grad():
        for tensor in model.odd.parameters():
            tensor.mul_(1e-4)
    x = torch.randn(8, 8) if kind is Pair else torch.randn(8, 3, 8, 8)
    seen = []
    model.odd.register_forward_hook(lambda _, args, output: seen.append(output))
    randomize_for_sensitivity(model, NetworkCall((x,)), seed=0)
    with torch.no_grad():
        model(x)
    output = seen[-1][0] if kind is Pair else seen[-1]
    assert 0.3 < float(output.std()) < 3
    assert float((output.flatten(0, -2).mean(0) > 0).float().mean()) > 0.6
