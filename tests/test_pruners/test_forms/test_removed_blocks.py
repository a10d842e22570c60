"""Whole residual blocks that leave the user's own module."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruners.errors import SurgeryError
from pruners.forms.module_form import SizeChange, module_form, remove_blocks_


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2
        self.f = nn.Linear(4, 4)

    def forward(self, x, shift):
        return x + self.f(x) * shift


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))
        self.o = nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, shift=2.0) * block.scale
        return self.o(x)


def test_a_removed_block_gives_its_input_back():
    model = Stack().eval()
    model.blocks[1].scale = 1
    for block in model.blocks:
        block.scale = 1
    remove_blocks_(model, [])
    module = copy.deepcopy(model)
    remove_blocks_(module, ["blocks.1"])
    assert isinstance(module.blocks[1], nn.Identity)
    assert not module.blocks[1].training
    assert "blocks.1.f.weight" not in module.state_dict()
    x = torch.randn(3, 4)
    assert torch.equal(module.blocks[1](x, shift=2.0), x)
    with pytest.raises(SurgeryError, match=r"no module 'blocks\.7' that could be removed"):
        remove_blocks_(module, ["blocks.7"])


def test_a_block_whose_attributes_are_read_from_outside_is_not_removed():
    misfit = module_form(
        Stack(),
        {},
        [],
        lambda module: "" if module(torch.randn(1, 4)).isfinite().all() else "not finite",
        removed_blocks=["blocks.1"],
    )
    assert "'RemovedBlock' object has no attribute 'scale'" in misfit.reason


def test_channels_inside_a_removed_block_need_no_sizes():
    gone = {"blocks.1.f.weight": {0: [1]}, "blocks.1.f.bias": {0: [1]}}
    model = Stack()

    class Plain(Stack):
        def forward(self, x):
            for block in self.blocks:
                x = block(x, 2.0)
            return self.o(x)

    model = Plain()
    module = module_form(model, gone, [SizeChange("blocks.1", 4, 3)], lambda _: "", removed_blocks=["blocks.1"])
    assert isinstance(module.blocks[1], nn.Identity)
    assert module.blocks[0].f.out_features == 4
