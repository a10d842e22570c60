"""What stands in the way of a network's own class is left whole by default, and named."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners import Target
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.registry import create
from pruners.target import Constraints
from pruners.task import PruningTask

IMAGE = torch.randn(2, 3, 8, 8)


class Attention(nn.Module):
    """Computes sizes from that of its input."""

    def __init__(self, width, heads=4):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


class Mixed(nn.Module):
    """A stem, an attention and layers that anything may be taken from."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 48, 3, padding=1)
        self.narrow = nn.Conv2d(48, 16, 1)
        self.attention, self.head = Attention(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.narrow(F.relu(self.wide(F.relu(self.stem(x)))))
        x = x.flatten(2).transpose(1, 2)
        return self.head((x + self.attention(x)).mean(1))


class TrainingOnly(nn.Module):
    """A mask token that only training reads, behind a branch that torch.export refuses (SpecAugment, layer drop)."""

    def __init__(self):
        super().__init__()
        self.a, self.mask, self.b = nn.Linear(8, 32), nn.Parameter(torch.zeros(32)), nn.Linear(32, 32)
        self.h = nn.Linear(32, 4)

    def forward(self, x):
        y = torch.relu(self.a(x))
        if self.training:
            y = torch.where(torch.rand(y.shape[:2])[..., None] < 0.5, self.mask, y)
            if float(torch.rand([])) < 0.1:
                return self.h(y).mean(1)
        return self.h(torch.relu(self.b(y))).mean(1)


class Remembers(nn.Module):
    """Keeps a tensor from its first call, and has a size in its code."""

    shape = None

    def __init__(self):
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x):
        x = torch.relu(self.a(x))
        if self.shape != x.shape:
            self.shape, self.grid = x.shape, torch.linspace(0, 1, x.shape[-1])
        return self.h(torch.relu(self.b((x * self.grid).mean((2, 3)).view(-1, 16))))


class Baked(nn.Module):
    """Nothing but one layer that could be pruned, with its size in the code."""

    def __init__(self):
        super().__init__()
        self.a, self.h = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.h(torch.relu(self.a(x)).view(-1, 32))


def pruned(model, *inputs, of="flops", kept=0.6, **constraints):
    target = Target(of=of, kept_fraction=kept)
    task = PruningTask(model=model, example_inputs=inputs, target=target, constraints=Constraints(**constraints))
    return create("l1").prune(task)


@pytest.mark.parametrize("form", ["auto", "module"])
def test_an_attention_that_divides_its_width_stays_whole_and_the_class_comes_back(form):
    torch.manual_seed(0)
    result = pruned(Mixed().eval(), IMAGE, form=form)
    assert type(result.model) is Mixed
    assert result.form_reason == ""
    assert result.left_whole.startswith("narrow, attention.qkv: attention (Attention): its code says RuntimeError")
    assert set(result.plan.kept) == {"stem", "wide"}
    assert result.model.attention.qkv.weight.shape == (48, 16)
    assert result.macs_after <= 0.6 * result.macs_before


def test_the_graph_form_is_still_there_for_the_asking():
    torch.manual_seed(0)
    result = pruned(Mixed().eval(), IMAGE, form="graph")
    assert isinstance(result.model, GraphNetwork)
    assert result.left_whole == ""
    assert "narrow" in result.plan.kept


def test_a_target_that_needs_those_layers_gets_them_and_says_so():
    torch.manual_seed(0)
    result = pruned(Mixed().eval(), IMAGE, kept=0.1)
    assert result.form == "graph"
    assert result.left_whole == ""
    assert result.form_reason.endswith("the target is too small to leave narrow, attention.qkv whole for that")
    only = pruned(Baked().eval(), torch.randn(3, 8), kept=0.5)
    assert (only.form, only.left_whole) == ("graph", "")


@pytest.mark.parametrize("form", ["auto", "module", "graph"])
def test_a_parameter_that_only_training_reads_shrinks_with_what_it_meets(form):
    torch.manual_seed(0)
    result = pruned(TrainingOnly().eval(), torch.randn(2, 6, 8), form=form)
    assert result.form == ("graph" if form == "graph" else "module")
    assert len(result.plan.kept["a"]) < 32
    assert result.model.mask.shape == (len(result.plan.kept["a"]),)
    if form != "graph":
        result.model.train()(torch.randn(2, 6, 8)).sum().backward()
        assert result.model.mask.grad.abs().sum() > 0


@pytest.mark.parametrize("ran", [False, True])
def test_a_network_that_keeps_a_tensor_from_an_earlier_call_comes_back(ran):
    torch.manual_seed(0)
    model = Remembers().eval()
    if ran:
        model(torch.randn(1, 3, 5, 5))
    result = pruned(model, IMAGE, of="params", kept=0.7)
    assert type(result.model) is Remembers
    assert result.left_whole.startswith("a: the network (Remembers)")
    assert set(result.plan.kept) == {"b"}
    assert result.model(torch.randn(1, 3, 6, 6)).shape == (1, 4)


def test_a_network_that_nothing_stands_in_the_way_of_is_not_tried(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr("pruners.forms.own_class._Trial.misfit", never)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(1), nn.Linear(128, 2)
    )
    result = pruned(model.eval(), IMAGE)
    assert (result.form, result.left_whole) == ("module", "")


def test_ratios_are_followed_whatever_stands_in_the_way():
    torch.manual_seed(0)
    task = PruningTask(model=Mixed().eval(), example_inputs=(IMAGE,), target=Target(of="ratios", ratios={"*": 0.3}))
    result = create("l1").prune(task)
    assert result.form == "graph"
    assert len(result.plan.kept["narrow"]) == 11


def test_groups_can_be_left_whole_by_name():
    model = Mixed().eval()
    result = pruned(model, IMAGE, form="graph", whole=("wide",))
    assert "wide" not in result.plan.kept
    assert {"stem", "narrow"} <= result.plan.kept.keys()
    assert trace(model, (IMAGE,)).group("wide").prunable


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.norm = nn.BatchNorm2d(2 * width)

    def forward(self, x):
        return x + self.down(F.relu(self.norm(self.up(x)), inplace=True))


class Pyramid(nn.Module):
    """Runs all its stages and uses the first two, as an encoder does that a decoder takes a few levels of."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.stages = nn.ModuleList(Residual(16) for _ in range(3))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return self.head(levels[0] + levels[1])


def test_layers_that_run_and_that_nobody_reads_are_cut_with_what_they_read():
    torch.manual_seed(0)
    net = Pyramid().eval()
    task = PruningTask(
        model=net, example_inputs=(IMAGE,), target=Target(of="ratios", ratios={"stem": 0.5, "stages.0.up": 0.5})
    )
    pruned = create("l1").prune(task)
    assert isinstance(pruned.model, Pyramid)
    unread = pruned.model.stages[2]
    assert (unread.up.in_channels, unread.down.out_channels) == (8, 8)
    assert pruned.model(IMAGE).shape == (2, 4, 8, 8)


class Checking(nn.Module):
    """Heads with as many channels inside as outside, and a check of what comes in, as torchaudio's attention has it."""

    def __init__(self, width, heads=4):
        super().__init__()
        self.width, self.heads, self.size = width, heads, width // heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        if x.shape[2] != self.width:
            raise ValueError(f"expected {self.width} features, got {x.shape[2]}")
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, self.heads, self.size).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = (q @ k.transpose(2, 3) * self.size**-0.5).softmax(-1) @ v
        return self.o(mixed.transpose(1, 2).reshape(b, n, self.heads * self.size))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.attention, self.h = nn.Linear(8, 16), nn.LayerNorm(16), Checking(16), nn.Linear(16, 4)

    def forward(self, x):
        x = self.a(x)
        return self.h(x + self.attention(self.norm(x)))


def test_a_width_that_was_equal_to_that_of_the_heads_follows_what_comes_in():
    torch.manual_seed(0)
    inputs = torch.randn(2, 5, 8)
    ratios = {"a": 0.25, "attention.q": 0.5}
    task = PruningTask(model=Block().eval(), example_inputs=(inputs,), target=Target(of="ratios", ratios=ratios))
    pruned = create("l1").prune(task).model
    assert isinstance(pruned, Block)
    assert (pruned.attention.width, pruned.attention.heads, pruned.attention.size) == (12, 2, 4)
    assert pruned(inputs).shape == (2, 5, 4)
