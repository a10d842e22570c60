"""Packed sequences: traced as padded ones, pruned, and the same as what torch computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.surgery import apply
from pruners.verify import verify

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Packed(nn.Module):
    """Words of several lengths to a class, by the last state and by the mean of the outputs."""

    def __init__(self, kind="lstm", *, sort=False, given=False, **options):
        super().__init__()
        self.words, self.sort, self.given = nn.Embedding(20, 6), sort, given
        self.r = KINDS[kind](6, 5, batch_first=True, **options)
        width = self.r.proj_size or 5
        directions = 2 if self.r.bidirectional else 1
        self.start = nn.Parameter(torch.randn(self.r.num_layers * directions, 1, 5))
        self.last, self.every = nn.Linear(width, 3), nn.Linear(width * directions, 3)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.words(words), lengths, batch_first=True, enforce_sorted=not self.sort)
        start = self.start.expand(-1, words.shape[0], -1).contiguous()
        packed, states = self.r(packed, start) if self.given else self.r(packed)
        y, _ = pad_packed_sequence(packed, batch_first=True, padding_value=-1.0)
        h = states[0] if isinstance(states, tuple) else states
        return self.last(h[-1]) + self.every(y.mean(1))


def example(*lengths):
    return torch.randint(0, 20, (len(lengths), max(lengths))), torch.tensor(lengths)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize(
    "net",
    [
        pytest.param(Packed("lstm", sort=True, num_layers=2, bidirectional=True), marks=pytest.mark.slow),
        pytest.param(Packed("lstm", proj_size=3), marks=pytest.mark.slow),
        Packed("gru", sort=True, given=True, bias=False),
        Packed("rnn", given=True, bidirectional=True, nonlinearity="relu"),
    ],
    ids=["lstm", "projected", "gru", "rnn"],
)
def test_packed_sequences_are_pruned(net, plan_for):
    inputs = example(2, 6, 4) if net.sort else example(6, 4, 2)
    graph = trace(net.eval(), inputs)
    with torch.no_grad():
        assert torch.allclose(graph.module(*inputs), net(*inputs), atol=1e-6)
    assert graph.dynamic_batch
    assert any(group.prunable and group.name in {"r", "start"} for group in graph.groups)
    plan = plan_for(graph)
    counts = {name: len(kept) for name, kept in plan.kept.items()}
    for form in ("module", "graph"):
        compact = apply(net, plan, graph=graph, form=form)
        assert verify(net, plan, compact, graph=graph).relative_error < 1e-4
        assert isinstance(compact, Packed if form == "module" else GraphNetwork)
        assert trace(compact, inputs).macs() == graph.macs(counts)


def test_a_graph_with_packed_sequences_trains_as_the_module_does(plan_for):
    net = Packed("lstm", sort=True, num_layers=2, bidirectional=True)
    inputs = example(2, 6, 4)
    graph = trace(net, inputs)
    plan = plan_for(graph)
    module, program = (apply(net, plan, graph=graph, form=form).train() for form in ("module", "graph"))
    for one in (module, program):
        one(*inputs).square().sum().backward()
    of_module = dict(module.named_parameters())
    for name, parameter in program.named_parameters():
        if of_module[name].grad is not None:
            assert torch.allclose(parameter.grad, of_module[name].grad, atol=1e-5), name


def test_a_graph_refuses_inputs_with_padding_that_no_sequence_fills():
    net = Packed("gru")
    with pytest.raises(RuntimeError, match="the longest sequence has 3 steps, the input 6"):
        trace(net, example(6, 4)).module(torch.randint(0, 20, (2, 6)), torch.tensor([3, 2]))
