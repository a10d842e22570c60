"""A copy is in the modes of the original, also where a network's own `train` switches more than a flag."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from pruners import Target
from pruners.modules.copies import copy_of
from pruners.modules.modes import copy_modes, evaluating
from pruners.registry import create
from pruners.task import PruningTask

X = torch.randn(3, 3, 32, 32)


class Merged(nn.Module):
    """Adds its update into its weight while it evaluates, as adapters do."""

    def __init__(self):
        super().__init__()
        self.base, self.update = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))

    def train(self, mode=True):
        if mode != self.training:
            self.base.weight.data += self.update.data * (-1 if mode else 1)
        return super().train(mode)

    def forward(self, x):
        y = self.base(x)
        return y + x @ self.update.T if self.training else y


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    return create_feature_extractor(resnet18(num_classes=4), {"layer2": "mid", "fc": "out"}).eval()


def test_a_copy_of_a_feature_extractor_evaluates(extractor):
    with torch.no_grad():
        assert torch.equal(copy_of(extractor)(X)["out"], extractor(X)["out"])


def test_a_feature_extractor_is_pruned_as_itself(extractor):
    target = Target(of="flops", kept_fraction=0.5)
    pruned = create("l1").prune(PruningTask(model=extractor, example_inputs=(X,), target=target))
    assert pruned.form == "module"
    assert not pruned.model.training
    again = pruned.model.train().eval()
    assert again(X[:1])["out"].shape == (1, 4)


def test_modes_come_back_with_what_train_switches():
    model, x = Merged(), torch.randn(2, 4)
    weight, training = model.base.weight.clone(), model(x)
    with evaluating(model):
        assert torch.allclose(model(x), training, atol=1e-5)
    assert torch.allclose(model.base.weight, weight, atol=1e-6)
    assert torch.allclose(model(x), training, atol=1e-5)


def test_a_layer_that_stays_in_evaluation_stays_there():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].eval()
    twin = copy_of(model)
    assert twin.training and not twin[1].training
    copy_modes(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval(), twin)
    assert not twin.training


class Counted(nn.Linear):
    """Has a way of its own to be copied."""

    def __deepcopy__(self, memo):
        twin = Counted(self.in_features, self.out_features)
        memo[id(self)] = twin
        twin.copied = True
        return twin


class Linked(nn.Module):
    """Its layers are shared, listed outside of its children, know their parent and have hooks."""

    def __init__(self):
        super().__init__()
        self.first = self.again = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.own = Counted(4, 4)
        self.listed, self.named = [self.first, self.last], {"first": {"layer": self.first}}
        self.last.parent = [self]
        self.calls = []
        self.first.register_forward_hook(lambda *_: self.calls.append(1))

    def forward(self, x):
        x = self.last(self.again(self.first(x)))
        return self.attention(x, x, x)[0]


def test_a_copy_is_linked_in_itself_and_to_nothing_else():
    model, x = Linked().eval(), torch.randn(2, 3, 4)
    twin = copy_of(model)
    assert twin.first is twin.again is twin.listed[0] is twin.named["first"]["layer"]
    assert twin.last is twin.listed[1]
    assert twin.last.weight is twin.first.weight
    assert twin.last.parent == [twin]
    assert twin.own.copied
    shared = {id(part) for part in (*model.modules(), *model.parameters(), model.listed, model.named)}
    assert shared.isdisjoint(id(part) for part in (*twin.modules(), *twin.parameters(), twin.listed, twin.named))
    assert torch.equal(twin(x), model(x))
    assert len(model.calls) == 4, "a hook is a function, and functions are not copied"
    twin.first.register_forward_hook(lambda *_: twin.calls.append(1))
    assert len(model.first._forward_hooks) == 1
