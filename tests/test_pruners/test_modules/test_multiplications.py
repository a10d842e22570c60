"""What is counted while a network runs is what its graph says, and the awake weights' output is that of a run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.graph import trace
from pruners.modules.calls import NetworkCall
from pruners.modules.copies import copy_to_trace
from pruners.modules.multiplications import MacCounter
from pruners.modules.outputs import distance, outputs_of, span_of
from pruners.modules.perturb import randomize_for_sensitivity


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


NETWORKS = {
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, groups=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.ConvTranspose2d(8, 4, 2)
        ),
        torch.randn(2, 3, 9, 9),
    ),
    "linear layers": (nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=False)), torch.randn(2, 7, 6)),
    "attention": (Attends(), torch.randn(2, 5, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_counts_what_the_graph_says(name):
    model, x = NETWORKS[name][0].eval(), NETWORKS[name][1]
    with torch.no_grad(), MacCounter() as counter:
        model(x)
    assert counter.macs // len(x) == trace(model, (x,)).macs()


class Tied(nn.Module):
    """Two layers of one weight: the second scales what the first has run with."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.relu(self.a(x)) * 3)


@pytest.mark.parametrize(
    ("network", "x"), [NETWORKS["convolutions"], NETWORKS["linear layers"], (Tied(), torch.randn(2, 6))]
)
def test_awake_weights_come_with_their_output(network, x):
    call = NetworkCall((x,))
    (given,) = randomize_for_sensitivity(network.eval(), call, seed=0)
    (again,) = outputs_of(network, call)
    assert distance(given, again) < 1e-5 * span_of(again)


def test_a_copy_to_trace_shares_tensors_but_not_with_a_class_that_writes_in_train():
    class Merges(nn.Linear):
        def train(self, mode=True):
            if not mode:
                with torch.no_grad():
                    self.weight.mul_(2)
            return super().train(mode)

    plain, merging = nn.Linear(3, 3), Merges(3, 3)
    assert copy_to_trace(plain).weight is plain.weight
    before = merging.weight.detach().clone()
    copy_to_trace(merging).eval()
    assert torch.equal(merging.weight, before)
