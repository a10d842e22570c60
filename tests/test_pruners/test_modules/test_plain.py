"""Compiled networks are pruned as what is inside; other kinds are one line that says what to do."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from pruners.errors import InputError
from pruners.modules.plain import plain
from pruners.registry import create
from pruners.target import Target
from pruners.task import PruningTask

X = torch.ones(2, 8)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = (
            nn.Linear(8, 16),
            nn.Sequential(nn.Linear(16, 16), nn.ReLU()),
            nn.Linear(16, 2),
        )

    def forward(self, x):
        return self.last(self.inner(self.first(x)))


def prune(network, example_inputs=X):
    target = Target(of="params", kept_fraction=0.5)
    return create("l1").prune(PruningTask(model=network, example_inputs=example_inputs, target=target))


def never(*_, **__):
    raise AssertionError("it was compiled")


def wrapped(network):
    return torch.compile(network, backend=never)


def inside(network):
    network.inner = torch.compile(network.inner, backend=never)
    return network


def in_place(network):
    network.compile(backend=never)
    return network


def forward_only(network):
    network.forward = torch.compile(network.forward, backend=never)
    return network


@pytest.mark.parametrize("compiled", [wrapped, inside, in_place, forward_only])
def test_a_compiled_network_comes_back_plain_without_compiling(compiled):
    network = compiled(Network())
    before = network.state_dict()
    pruned = prune(network)
    assert type(pruned.model) is Network
    assert type(pruned.model.inner) is nn.Sequential
    assert pruned.model(X).shape == (2, 2)
    assert not any("_orig_mod" in name for name in pruned.model.state_dict())
    assert network.state_dict().keys() == before.keys()


def test_a_function_that_is_compiled_inside_runs_as_it_was_written():
    class Acts(Network):
        act = staticmethod(torch.compile(lambda x: torch.relu(x), backend=never))

        def forward(self, x):
            return self.last(self.inner(self.act(self.first(x))))

    assert prune(Acts()).form == "module"


def test_what_is_not_compiled_is_handed_back_itself():
    network = Network()
    assert plain(network) is network
    assert plain(inside(Network())).first.weight.shape == (16, 8)


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Network().eval(), {nn.Linear})


def scripted(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(Network())


def meta():
    with torch.device("meta"):
        return Network()


def fake():
    with torch._subclasses.FakeTensorMode():
        return Network()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: lambda x: x, "a network is a torch.nn.Module, got one of type function"),
        (lambda: scripted(torch.jit.script), "is a torch.jit module: prune the network as it was written"),
        (lambda: scripted(lambda network: torch.jit.trace(network, X)), "is a torch.jit module"),
        (meta, r"'first.weight' of Network is on the meta device.*to_empty"),
        (lambda: nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)), "has no size yet .*run the network once"),
        (fake, "is a fake tensor"),
        (quantised, "is quantised: prune first"),
    ],
    ids=["function", "script", "jit trace", "meta", "lazy", "fake", "quantised"],
)
def test_other_kinds_of_network_are_one_line(make, says):
    with pytest.raises(InputError, match=says) as error:
        prune(make())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("example", [torch.ones(2, 8, device="meta")])
def test_example_inputs_are_where_the_network_is(example):
    with pytest.raises(InputError, match="on meta, the network on cpu: move them"):
        prune(Network(), example)
