"""Where torch.export refuses, the line of the user's code is named, and nothing else is printed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.errors import TraceError
from pruners.graph import trace


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)


class Decides(Base):
    def forward(self, x):
        x = self.a(x)
        if x.sum() > 0:
            x = x + 1
        return self.b(x)


class Reads(Base):
    def forward(self, x):
        x = self.a(x)
        n = x.abs().sum().item()
        return self.b(x)[: int(n)]


class Counts(Base):
    def forward(self, x):
        x = self.a(x)
        positive = x[x > 0]
        return self.b(x).flatten()[: len(positive)].reshape(len(positive), 1)


class Leaves(Base):
    def forward(self, x):
        return self.b(self.a(x) * torch.from_numpy(x.numpy().sum()))


class Errs(Base):
    def forward(self, x):
        return self.b(self.a(x).view(-1, 7))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (Decides, r"`if x.sum\(\) > 0:`: it decides by the values of a tensor: compute both sides"),
        (Reads, "`(n = x.abs|return self.b).*`: it makes Python numbers of a tensor"),
        (Counts, r"`.*len\(positive\).*`: sizes or counts depend on the values"),
        (Leaves, "`return .*numpy.*`: numpy cannot be traced"),
        (Errs, r"`return self.b\(self.a\(x\).view\(-1, 7\)\)`: RuntimeError: shape"),
    ],
)
def test_the_line_of_the_network_is_named(network, says, capfd):
    with pytest.raises(TraceError, match=rf"cannot trace {network.__name__}: \S*test_refusals.py:\d+: {says}") as error:
        trace(network(), torch.ones(2, 4))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_line_inside_a_wrapped_module_is_named():
    with pytest.raises(TraceError, match=r"test_refusals.py:\d+: `if x.sum"):
        trace(nn.Sequential(Decides(), nn.ReLU()), torch.ones(2, 4))


def test_a_class_that_holds_no_tensors_for_torch_is_named():
    class Odd(Base):
        def forward(self, x):
            return type("Result", (), {"x": self.b(self.a(x))})()

    with pytest.raises(TraceError, match="returns a Result: return tensors, or tuples"):
        trace(Odd(), torch.ones(2, 4))
