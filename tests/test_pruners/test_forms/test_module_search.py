"""Which attributes are tried when a size of a module changes."""

from __future__ import annotations

import torch
from torch import nn

from pruners.forms.module_form import SizeChange, module_form
from pruners.forms.module_search import Misfit


class Labelled(nn.Module):
    """Writes a size into its code, and repeats it in attributes that the code never reads."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
        self.width = self.features = self.channels = self.units = 6

    def forward(self, x):
        return self.head(self.body(x).reshape(-1, 6))


def test_attributes_that_the_code_does_not_read_are_not_tried():
    gone = {"body.weight": {0: [1, 4]}, "body.bias": {0: [1, 4]}, "head.weight": {1: [1, 4]}}
    get, calls = Labelled.__getattribute__, []

    def disagreement(module):
        calls.append(module)
        module(torch.randn(3, 4))
        return ""

    assert isinstance(module_form(Labelled(), gone, [SizeChange("", 6, 4)], disagreement), Misfit)
    assert len(calls) < 4
    assert Labelled.__getattribute__ is get
