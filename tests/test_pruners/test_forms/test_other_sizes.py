"""The graph form runs at other sizes than the traced one where the network's code computes alike there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import SurgeryError
from pruners.forms.masking import mask
from pruners.graph import trace
from pruners.surgery import apply


class Pooled(nn.Module):
    """Sizes in the code, and a height that is filled up to a multiple of 8."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        if x.shape[2] % 8:
            x = F.pad(x, (0, 0, 0, 8 - x.shape[2] % 8))
        x = self.norm(self.b(self.a(x).relu())).relu()
        b, c, h, w = x.shape
        return self.head(x.view(b, c, h * w).mean(-1))


class Tokens(nn.Module):
    """Patches to tokens, a class token, interpolated positions, attention with `C // 4` in its code, an image back."""

    def __init__(self):
        super().__init__()
        self.patches, self.qkv, self.out = nn.Conv2d(3, 32, 4, 4), nn.Linear(32, 96), nn.Linear(32, 32)
        self.first, self.positions = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 32, 8, 8))
        self.up = nn.ConvTranspose2d(32, 3, 4, 4)

    def forward(self, image):
        x = self.patches(image)
        b, c, h, w = x.shape
        x = x + F.interpolate(self.positions, (h, w), mode="bilinear")
        x = torch.cat([self.first.expand(b, -1, -1), x.flatten(2).transpose(1, 2)], 1)
        q, k, v = self.qkv(x).reshape(b, h * w + 1, 3, 4, c // 4).permute(2, 0, 3, 1, 4)
        x = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)) + x
        return self.up(x[:, 1:].transpose(1, 2).reshape(b, c, h, w))


class Joined(nn.Module):
    """Channels and places in one axis, whose size is computed from both."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(32, 4, 1)

    def forward(self, x):
        y = self.a(x).relu()
        b, c, h, w = y.shape
        return self.b(torch.cat([y.reshape(b, c * h * w), (2 * y).flatten(1)], 1).view(b, 2 * c, h, w))


def image(*sizes):
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def pruned(model, inputs, plan_for, removed=0.4):
    torch.manual_seed(0)
    graph = trace(model.eval(), inputs)
    plan = plan_for(graph, removed=removed)
    return apply(model, plan, graph=graph, form="graph"), mask(model, plan, graph=graph)


@pytest.mark.parametrize("make", [Pooled, pytest.param(Tokens, marks=pytest.mark.slow), Joined])
def test_other_sizes_give_what_the_masked_network_gives(make, plan_for):
    model = make()
    compact, masked = pruned(model, (image(2, 3, 16, 16),), plan_for)
    for sizes in ((3, 3, 24, 32), (1, 3, 40, 16)):
        for one in (compact, copy.deepcopy(compact)):
            torch.testing.assert_close(one(image(*sizes)), masked(image(*sizes)), rtol=1e-4, atol=1e-4)
    assert compact.train()(image(4, 3, 24, 32)).shape == model(image(4, 3, 24, 32)).shape


def test_a_graph_form_pruned_again_still_does(plan_for):
    compact, _ = pruned(Pooled(), (image(2, 3, 16, 16),), plan_for)
    again, masked = pruned(compact, (image(2, 3, 16, 16),), plan_for)
    torch.testing.assert_close(again(image(1, 3, 24, 32)), masked(image(1, 3, 24, 32)), rtol=1e-4, atol=1e-4)
    for network in (compact, again):
        with pytest.raises(SurgeryError, match=r"\[1, 3, 20, 16\], its code needs .*% 8 == 0: trace and prune it"):
            network(image(1, 3, 20, 16))


def test_sizes_that_the_code_does_not_allow_are_one_line(plan_for):
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 5))
    compact, masked = pruned(model, (image(2, 3, 16, 16),), plan_for)
    torch.testing.assert_close(compact(image(1, 3, 15, 16)), masked(image(1, 3, 15, 16)))
    with pytest.raises(SurgeryError, match=r"\[1, 3, 24, 16\], its code needs .*== 512: trace and prune it") as error:
        compact(image(1, 3, 24, 16))
    assert "\n" not in str(error.value)
    with pytest.raises(SurgeryError, match=r"of shape \['any', 3, 'any', 'any'\] only, got \[1, 3, 1, 16\]"):
        compact(image(1, 3, 1, 16))


class Winding(nn.Module):
    """A size that is a long formula of the image's, with which torch.export takes minutes in real networks."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        height, width = x.shape[2:]
        for part in range(2, 10):
            height = (height * part + width) // (part + 1)
        return self.b(F.interpolate(self.a(x).relu(), (height, width)))


def test_sizes_that_are_long_formulas_stay_those_of_the_example(plan_for):
    compact, masked = pruned(Winding(), (image(2, 3, 16, 16),), plan_for)
    torch.testing.assert_close(compact(image(3, 3, 16, 16)), masked(image(3, 3, 16, 16)), rtol=1e-4, atol=1e-4)
    with pytest.raises(SurgeryError, match=r"\['any', 3, 16, 16\] only"):
        compact(image(2, 3, 24, 16))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(30, 16), nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, ids=None, *, mask):
        x = self.hidden(self.words(ids)).relu().view(-1, ids.shape[1], 32)
        return self.head((x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


class Anything(Words):
    def forward(self, **inputs):
        return super().forward(**inputs)


def test_lengths_of_keyword_inputs_are_free(plan_for):
    def inputs(n, length):
        return {"ids": torch.randint(0, 30, (n, length)), "mask": torch.ones(n, length)}

    compact, masked = pruned(Words(), inputs(2, 7), plan_for)
    given = inputs(3, 11)
    torch.testing.assert_close(compact(**given), masked(**given))
    with pytest.raises(SurgeryError, match=r"of shape \[3, 5\], \[3, 7\], its code needs .*: trace and prune it"):
        compact(ids=given["ids"][:, :5], mask=given["mask"][:, :7])

    compact, masked = pruned(Anything(), inputs(2, 7), plan_for)  # torch cannot check these
    torch.testing.assert_close(compact(**inputs(1, 7)).shape, (1, 3))
    with pytest.raises(SurgeryError, match=r"\['any', 7\] only"):
        compact(**given)


class OneSizeAtLast(nn.Module):
    """Its evaluation takes one size only."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.grid = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1), nn.Parameter(torch.randn(8, 8))

    def forward(self, x):
        x = self.a(x).relu()
        return self.b(x if self.training else x * self.grid)


def test_training_runs_at_other_sizes_where_evaluation_does_not(plan_for):
    model, inputs = OneSizeAtLast(), (torch.randn(2, 3, 8, 8),)
    graph = trace(model, inputs)
    compact = apply(model, plan_for(graph, removed=0.3), graph=graph, form="graph")
    assert compact.train()(torch.randn(2, 3, 16, 12)).shape == (2, 4, 16, 12)
    with pytest.raises(SurgeryError, match="runs on inputs of shape"):
        compact.eval()(torch.randn(2, 3, 16, 12))
