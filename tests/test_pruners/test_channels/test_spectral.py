"""Fourier transforms and complex numbers: what is mixed is held, what is not is pruned, and checked."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners import Target
from pruners.errors import VerificationError
from pruners.graph import trace
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints
from pruners.task import PruningTask
from pruners.verify import verify


class Operator(nn.Module):
    """A Fourier neural operator of one layer: complex weights, a product at each frequency."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 1), nn.Conv2d(24, 4, 1)
        self.w = nn.Parameter(torch.randn(12, 12, 4, 4, dtype=torch.cfloat))
        self.gain = 1.0

    def forward(self, x):
        x = self.a(x)
        y = torch.einsum("bixy,ioxy->boxy", torch.fft.rfft2(x)[:, :, :4, :4], self.w) * self.gain
        return self.h(torch.relu(self.b(torch.fft.irfft2(y, s=x.shape[-2:]) + x)))


class Filter(nn.Module):
    """Complex weights kept as pairs, channels last (GFNet)."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(24, 4, 1)
        self.w = nn.Parameter(torch.randn(8, 5, 16, 2))

    def forward(self, x):
        x = torch.fft.rfft2(self.a(x).permute(0, 2, 3, 1), dim=(1, 2)) * torch.view_as_complex(self.w)
        return self.h(torch.relu(self.b(torch.fft.irfft2(x, s=(8, 8), dim=(1, 2)).permute(0, 3, 1, 2))))


class Phases(nn.Module):
    """Complex inputs, layers and outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 32, dtype=torch.cfloat), nn.Linear(32, 16, dtype=torch.cfloat)
        self.h = nn.Linear(16, 4, dtype=torch.cfloat)

    def forward(self, z):
        z = self.a(z)
        z = self.b(torch.complex(torch.relu(z.real), torch.relu(z.imag))).conj()
        return self.h(z * torch.sigmoid(z.abs()))


class Mixer(nn.Module):
    """Transforms positions and features (FNet): the features are mixed."""

    def __init__(self):
        super().__init__()
        self.e, self.f, self.g, self.h = nn.Linear(8, 16), nn.Linear(16, 48), nn.Linear(48, 16), nn.Linear(16, 3)

    def forward(self, x):
        x = self.e(x)
        x = x + torch.fft.fftshift(torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1), dim=1).real
        return self.h(x + self.g(F.gelu(self.f(x))))


class LastAxes(nn.Module):
    """Transforms as many of the last axes as sizes are given: first all but the channels, then these, too."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(24, 4, 1)

    def forward(self, x):
        x = self.b(torch.fft.fftn(self.a(x), s=(8, 8)).real)
        return self.h(torch.fft.fftn(x, s=(24, 8, 8)).real)


class Rotary(nn.Module):
    """Attention whose positions turn queries and keys as complex numbers, by a complex buffer (Llama)."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.f, self.h = nn.Linear(16, 24), nn.Linear(24, 4)
        angles = torch.outer(torch.arange(6.0), torch.tensor([1.0, 0.1]))
        self.register_buffer("turn", torch.polar(torch.ones(6, 2), angles))

    def turned(self, x):
        x = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * self.turn[None, :, None]
        return torch.view_as_real(x).flatten(3)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(2, (-1, 4)) for layer in (self.q, self.k, self.v))
        q, k, v = (item.transpose(1, 2) for item in (self.turned(q), self.turned(k), v))
        x = self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.h(F.relu(self.f(x)))


X = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("made", "x", "free"),
    [
        (Operator, X, {"a": 12, "b": 24}),
        (Filter, X, {"a": 16, "b": 24}),
        (Phases, torch.randn(2, 8, dtype=torch.cfloat), {"a": 32, "b": 16}),
        (Mixer, torch.randn(2, 6, 8), {"f": 48}),
        (LastAxes, X, {"a": 16}),
        (Rotary, torch.randn(2, 6, 16), {"q": 4, "o": 16, "f": 24}),
    ],
)
@pytest.mark.parametrize("form", ["module", "graph"])
def test_channels_beside_a_transform_are_pruned(made, x, free, form):
    torch.manual_seed(0)
    model = made().eval()
    graph = trace(model, (x,))
    assert {group.name: group.n_units for group in graph.groups if group.prunable} == free
    target = Target(of="flops", kept_fraction=0.6)
    task = PruningTask(model=model, example_inputs=(x,), target=target, constraints=Constraints(form=form))
    pruned = create("l1").prune(task)
    assert pruned.form == form
    assert pruned.model(x).dtype == model(x).dtype


def test_filters_of_complex_numbers_are_ranked_by_their_size():
    model = Phases().eval()
    with torch.no_grad():
        model.a.weight[:8].real.zero_()
        model.a.weight[:8].imag.fill_(9)
    target = Target(of="ratios", ratios={"a": 0.75})
    for criterion in ("l1", "l2", "fpgm", "min_weight"):
        task = PruningTask(model=model, example_inputs=(torch.randn(2, 8, dtype=torch.cfloat),), target=target)
        kept = create("criterion", criterion=criterion).prune(task).plan.kept["a"]
        assert kept == tuple(range(8))


@pytest.mark.parametrize("spoil", ["gain", "w"])
def test_a_wrong_spectrum_is_seen(spoil, plan_for):
    model = Operator().eval()
    graph = trace(model, (X,))
    plan = plan_for(graph)
    compact = apply(model, plan, graph=graph)
    if spoil == "gain":
        compact.gain = 1.01
    else:
        with torch.no_grad():
            compact.w.imag[0, 0, 0, 0] += 1e-3
    with pytest.raises(VerificationError, match=r"differ by|cut by the plan"):
        verify(model, plan, compact, graph=graph)
