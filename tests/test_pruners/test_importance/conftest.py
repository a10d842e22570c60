"""A small network in which two layers make one group, and what criteria are given of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.graph import trace
from pruners.importance.evidence import Evidence


class Net(nn.Module):
    """conv1 -> BN -> ReLU -> pool -> (x + BN(conv2)) -> mean -> hidden -> fc; conv1 and conv2 make one group."""

    def __init__(self, activation=F.relu):
        super().__init__()
        self.activation = activation
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.hidden = nn.Linear(4, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = F.max_pool2d(self.activation(self.bn1(self.conv1(x))), 2)
        x = x + self.bn2(self.conv2(self.activation(self.inner(x))))
        return self.fc(self.activation(self.hidden(x.mean((2, 3)))))


def make_net(activation=F.relu):
    torch.manual_seed(1)
    net = Net(activation).double()
    with torch.no_grad():
        for norm in (net.bn1, net.bn2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_()
            norm.bias.normal_()
    return net


def make_examples(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(12, 2, 6, 6, dtype=torch.float64, generator=generator).to(dtype)
    return images, torch.randint(0, 3, (12,), generator=generator)


@pytest.fixture(scope="module")
def net():
    return make_net()


@pytest.fixture(scope="module")
def graph(net):
    return trace(net, (torch.zeros(2, 2, 6, 6, dtype=torch.float64),))


@pytest.fixture(scope="module")
def examples():
    return make_examples()


def in_batches(examples, size):
    return list(zip(*(torch.split(part, size) for part in examples), strict=True))


@pytest.fixture(scope="module")
def evidence(net, graph, examples):
    return Evidence(
        model=net, graph=graph, groups=("conv1", "inner"), batches=in_batches(examples, 4), loss=F.cross_entropy
    )


@pytest.fixture(scope="module")
def smooth(examples):
    """A network whose loss has no kinks, so that finite differences see the derivatives."""
    net = make_net(F.softplus)
    return Evidence(
        model=net,
        graph=trace(net, (examples[0][:2],)),
        groups=("conv1", "inner"),
        batches=in_batches(examples, 4),
        loss=F.cross_entropy,
    )


def with_groups(evidence, *groups):
    return Evidence(
        model=evidence.model, graph=evidence.graph, groups=groups, batches=evidence.batches, loss=evidence.loss
    )


@pytest.fixture(name="in_batches", scope="session")
def _in_batches():
    return in_batches


@pytest.fixture(name="make_examples", scope="session")
def _make_examples():
    return make_examples


@pytest.fixture(name="make_net", scope="session")
def _make_net():
    return make_net


@pytest.fixture(name="with_groups", scope="session")
def _with_groups():
    return with_groups
