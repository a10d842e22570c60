"""A network in graph form is rebuilt alike, whether it, or the instance it is rebuilt from, had run before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruners.forms.compact import load, save_weights
from pruners.graph import trace
from pruners.modules.kept_state import kept_state, restore_kept
from pruners.surgery import apply

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Caches(nn.Module):
    """Keeps tensors of its first call, as a detector keeps its anchors; one of them depends on the weights."""

    shape = None

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 32), nn.Linear(32, 4)
        self.grids = None

    def forward(self, x):
        if self.shape != x.shape:
            self.shape = x.shape
            grid = torch.linspace(0, 1, x.shape[-1])
            self.grids, self.level = [grid, {"other": grid + 1}], self.o.bias.detach().abs().mean()
        x = torch.relu(self.a(x)) * self.grids[0] + self.grids[1]["other"]
        y = x.mean((2, 3)).view(-1, 16)  # a size in the code: the graph form
        return self.o(torch.relu(self.b(y))) * self.level + torch.tensor([2.0]) * (3 if self.training else 1)


class CachesInBuffers(Caches):
    """Keeps them in a buffer that no state dict holds, as ConViT keeps its relative positions."""

    def __init__(self):
        super().__init__()
        self.register_buffer("places", torch.zeros(1, 3), persistent=False)

    def forward(self, x):
        if self.places.shape[1] != x.shape[-1]:
            self.places = torch.linspace(0, 1, x.shape[-1])[None]
        return super().forward(x) + self.places.mean()


@pytest.mark.parametrize("network", [Caches, CachesInBuffers])
@pytest.mark.parametrize(
    ("has_run", "fresh_has_run"),
    [
        (True, False),
        (False, True),
        pytest.param(False, False, marks=pytest.mark.slow),
        pytest.param(True, True, marks=pytest.mark.slow),
    ],
)
def test_what_was_kept_is_carried_by_the_file(has_run, fresh_has_run, network, plan_for, tmp_path):
    torch.manual_seed(0)
    model, fresh = network().eval(), network().eval()
    for one, runs in ((model, has_run), (fresh, fresh_has_run)):
        if runs:
            one(IMAGE)
    graph = trace(model, (IMAGE,))
    plan = plan_for(graph, removed=0.5)
    compact = apply(model, plan, graph=graph, form="graph")
    save_weights(compact, tmp_path / "w.safetensors")
    before = kept_state(fresh)
    loaded = load(fresh, plan, tmp_path / "w.safetensors", form="graph")
    assert torch.equal(loaded(IMAGE), compact(IMAGE))
    assert torch.equal(loaded.train()(IMAGE), compact.train()(IMAGE))
    assert kept_state(fresh).record == before.record  # the given instance is as it was


class RelativePlaces(nn.Module):
    """Makes the distances of positions in its first call, and has no size in its code: the module form."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.o = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.weigh = nn.Linear(3, 16)
        self.register_buffer("places", torch.zeros(1, 1, 3), persistent=False)

    def forward(self, x):
        if self.places.shape[1] != x.shape[1]:
            places = torch.zeros(1, x.shape[1], 3)
            places[:, :, 0] = torch.arange(x.shape[1])
            self.places = places
        return self.o(torch.relu(self.b(torch.relu(self.a(x)) * torch.sigmoid(self.weigh(self.places)))))


def test_a_plan_of_a_network_that_had_run_fits_one_that_has_not(plan_for, tmp_path):
    torch.manual_seed(0)
    model, fresh, words = RelativePlaces().eval(), RelativePlaces().eval(), torch.randn(2, 5, 6)
    model(words)
    graph = trace(model, (words,))
    assert trace(fresh, (words,)).fingerprint != graph.fingerprint
    plan = plan_for(graph, removed=0.5)
    compact = apply(model, plan, graph=graph, form="module")
    save_weights(compact, tmp_path / "w.safetensors")
    loaded = load(fresh, plan, tmp_path / "w.safetensors", form="module")
    assert torch.allclose(loaded(words), compact(words), atol=1e-6)


def test_an_instance_is_put_into_a_recorded_state():
    model, fresh, other = Caches(), Caches(), Caches()
    cold = kept_state(model)
    model(IMAGE)
    assert restore_kept(fresh, kept_state(model))
    assert fresh.shape == IMAGE.shape
    assert torch.equal(fresh.grids[1]["other"], model.grids[1]["other"])
    assert not restore_kept(fresh, kept_state(model))
    other(IMAGE)
    assert restore_kept(other, cold)
    assert other.shape is None


def test_a_state_dict_and_a_copy_hold_everything(plan_for):
    model = Caches().eval()
    model(IMAGE)
    graph = trace(model, (IMAGE,))
    plan = plan_for(graph, removed=0.5)
    compact = apply(model, plan, graph=graph, form="graph")
    twin = copy.deepcopy(compact)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            tensor.zero_()
    assert not torch.equal(twin(IMAGE), compact(IMAGE))
    twin.load_state_dict(compact.state_dict())
    assert torch.equal(twin(IMAGE), compact(IMAGE))
