"""The two forms of a compact network: the user's own module where it agrees with the graph, else the graph."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import PlanError, SurgeryError, TrainingError
from pruners.forms.compact import load, save_weights
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.policy import Policy
from pruners.surgery import apply
from pruners.verify import verify

IMAGE = torch.randn(2, 3, 8, 8)


class Baked(nn.Module):
    """A size is written into the code."""

    def __init__(self):
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.b, self.o = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.bn(self.a(x))).view(-1, 8, 64).transpose(1, 2)
        return self.o(F.dropout(F.relu(self.b(x)), 0.5, self.training)).mean(1)


class Heads(nn.Module):
    """Attention by hand, its number of heads an attribute."""

    def __init__(self, scale=None):
        super().__init__()
        self.heads, self.scale = 4, scale
        self.i, self.qkv, self.p, self.o = nn.Linear(5, 16), nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 2)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        x = self.i(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).reshape(b, n, -1)
        return self.o(x + self.p(y)).mean(1)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.bn = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.b = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return F.relu(x + self.b(F.relu(self.bn(self.a(x)))))


class Twice(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.n1, self.f1 = nn.LayerNorm(width), nn.Linear(width, width)
        self.n2, self.f2 = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        x = x + self.f1(self.n1(x))
        return x + F.gelu(self.f2(self.n2(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.Sequential(Block(6), Block(6))
        self.twice, self.o = Twice(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.o(self.twice(self.blocks(F.relu(self.stem(x))).mean((2, 3))))


def test_a_size_in_the_code_gives_the_graph_and_the_reason(plan_for, tmp_path):
    model = Baked().train()
    graph = trace(model, (IMAGE,))
    assert {group.name for group in graph.groups if group.prunable} == {"a", "b"}
    plan = plan_for(graph, removed=0.5)
    compact = apply(model, plan, graph=graph)
    assert isinstance(compact, GraphNetwork)
    assert compact.training
    assert "shape '[-1, 8, 64]' is invalid" in compact.reason
    assert "Baked as a graph" in repr(compact)
    assert compact.state_dict().keys() == model.state_dict().keys()
    assert compact.get_parameter("a.weight").shape == (4, 3, 1, 1)
    with pytest.raises(SurgeryError, match=r"^Baked cannot be made smaller as itself: [^\n]*form=\"auto\""):
        apply(model, plan, graph=graph, form="module")

    save_weights(compact, tmp_path / "w.safetensors")
    loaded = load(Baked(), plan, tmp_path / "w.safetensors").eval()
    assert torch.equal(loaded(IMAGE), compact.eval()(IMAGE))


def test_the_groups_that_the_code_lets_shrink_stay_a_module(plan_for):
    model = Baked()
    graph = trace(model, (IMAGE,))
    assert type(apply(model, plan_for(graph, removed=0.5, only={"b"}), graph=graph)) is Baked
    as_graph = apply(model, plan_for(graph, removed=0.5, only={"b"}), graph=graph, form="graph")
    assert as_graph.reason == "it was asked for"


def test_the_graph_form_trains_like_the_module(plan_for):
    torch.manual_seed(0)
    model = Baked().train()
    graph = trace(model, (IMAGE,))
    plan = plan_for(graph, removed=0.5, only={"b"})
    forms = [apply(model, plan, graph=graph, form=form) for form in ("module", "graph")]
    for compact in forms:
        optimizer = torch.optim.SGD(compact.parameters(), lr=0.1)
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            compact(IMAGE).square().sum().backward()
            optimizer.step()
    own, other = (compact.state_dict() for compact in forms)
    assert own["bn.num_batches_tracked"] == 3
    for name, tensor in own.items():
        torch.testing.assert_close(other[name], tensor)
    torch.testing.assert_close(forms[1].eval()(IMAGE), forms[0].eval()(IMAGE))


def test_the_graph_form_is_a_module_like_any_other(plan_for):
    model = Baked().eval()
    graph = trace(model, (IMAGE,))
    compact = apply(model, plan_for(graph), graph=graph)
    twin = copy.deepcopy(compact)
    with torch.no_grad():
        twin.get_parameter("o.bias").add_(1)
    torch.testing.assert_close(twin(IMAGE), compact(IMAGE) + 1)
    torch.testing.assert_close(compact.double()(IMAGE.double()).float(), twin(IMAGE) - 1)
    assert twin(torch.randn(5, 3, 8, 8)).shape == (5, 2)
    with pytest.raises(TypeError, match="its plan and its weights"):
        pickle.dumps(twin)


def test_a_graph_form_is_pruned_again(plan_for):
    model = Baked()
    graph = trace(model, (IMAGE,))
    first = plan_for(graph, removed=0.3, seed=1)
    once = apply(model, first, graph=graph)
    middle = trace(once, (IMAGE,), policy=graph.policy)
    second = plan_for(middle, removed=0.3, seed=2)
    twice = apply(once, second, graph=middle)
    at_once = apply(model, first.then(second), graph=graph).state_dict()
    assert all(torch.equal(tensor, at_once[name]) for name, tensor in twice.state_dict().items())
    assert twice.reason == once.reason


def test_without_a_training_path_the_graph_form_only_evaluates(plan_for):
    class Untraceable(Baked):
        def forward(self, x):
            if self.training and x.sum() > 0:
                x = x + 1
            return super().forward(x)

    model = Untraceable().eval()
    graph = trace(model, (IMAGE,))
    compact = apply(model, plan_for(graph), graph=graph)
    assert compact(IMAGE).shape == (2, 2)
    with pytest.raises(TrainingError, match=r"in evaluation mode only: torch\.export cannot trace"):
        compact.train()(IMAGE)


@pytest.mark.parametrize(("scale", "kind"), [(None, GraphNetwork), (0.5, Heads)])
def test_heads_lose_positions_as_a_module_only_if_their_scale_is_their_own(scale, kind, plan_for):
    model = Heads(scale)
    x = torch.randn(2, 7, 5)
    graph = trace(model, (x,), policy=Policy(attention="head_size"))
    plan = plan_for(graph, removed=0.5, only={"qkv"}).model_copy(update={"policy": graph.policy})
    compact = apply(model, plan, graph=graph)
    assert isinstance(compact, kind)
    assert compact.get_parameter("qkv.weight").shape == (24, 16)
    assert apply(model, plan).state_dict().keys() == compact.state_dict().keys()


def test_heads_are_lost_as_a_module_by_their_attribute(plan_for):
    model = Heads()
    graph = trace(model, (torch.randn(2, 7, 5),))
    compact = apply(model, plan_for(graph, removed=0.5), graph=graph, form="module")
    assert compact.heads == 2
    assert model.heads == 4
    assert compact.norm.normalized_shape == (8,)
    assert verify(model, plan_for(graph, removed=0.5), compact, graph=graph).reference == "masked values"


def test_residual_blocks_are_removed_whole():
    model = Residual()
    graph = trace(model, (IMAGE,))
    assert [block.name for block in graph.blocks] == ["blocks.0", "blocks.1", "twice", "twice#2"]

    def without(*blocks, **kept):
        sizes = {group.name: group.n_units for group in graph.groups}
        return PruningPlan.from_kept(
            kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="m", settings={}, blocks=blocks
        )

    plan = without("blocks.1", "twice", "twice#2", stem=(0, 2, 3))
    compact = apply(model, plan, graph=graph)
    assert type(compact) is Residual
    assert isinstance(compact.blocks[1], nn.Identity)
    assert "twice.f1.weight" not in compact.state_dict()
    check = verify(model, plan, compact, graph=graph)
    assert check.reference == "masked values"
    assert check.probe_sensitivity > 0.01
    again = trace(compact, (IMAGE,))
    assert again.macs() == graph.macs({"stem": 3}, plan.blocks) < graph.macs({"stem": 3})
    assert again.parameters() == graph.parameters({"stem": 3}, plan.blocks)
    assert PruningPlan.model_validate_json(plan.model_dump_json()) == plan

    half = apply(model, without("twice#2"), graph=graph)
    assert isinstance(half, GraphNetwork)
    assert "only some of them go" in half.reason
    assert "twice.f2.weight" not in half.state_dict()
    with pytest.raises(PlanError, match=r"no residual block 'layer1'; it has blocks\.0"):
        apply(model, without("layer1"), graph=graph)


def test_a_plan_of_the_first_version_is_still_read():
    old = '{"version": 1, "graph": "x", "inputs": [], "method": "m", "settings": {}, "sizes": {}, "kept": {}}'
    plan = PruningPlan.model_validate_json(old)
    assert plan.blocks == ()
    assert plan.policy == Policy()
