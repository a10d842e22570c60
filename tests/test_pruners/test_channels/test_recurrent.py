"""Recurrent layers lose hidden units: random stacks, hand-known groups, costs, what stays whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

from pruners import Target
from pruners.graph import trace
from pruners.importance.measures.taylor import taylor_scores
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.task import PruningTask
from pruners.verify import verify

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
STARTS = ["zeros", "layer", "learned", "given"]
ENDS = ["outputs", "last", "states", "cell"]


class Stack(nn.Module):
    """A recurrent layer between linear ones: where its initial state comes from, and what of it is used.

    Called with lengths, it packs its sequences.
    """

    def __init__(self, kind, start, end, *, is_sorted=True, **options):
        super().__init__()
        self.kind, self.start, self.end, self.is_sorted = kind, start, end, is_sorted
        self.embed = nn.Linear(4, 6)
        self.r = KINDS[kind](6, 5, **options)
        self.n_states = self.r.num_layers * (2 if self.r.bidirectional else 1)
        width = self.r.proj_size or 5
        if start == "layer":
            self.h0, self.c0 = nn.Linear(4, width), nn.Linear(4, 5)
        if start == "learned":
            self.h0 = nn.Parameter(torch.randn(self.n_states, 1, width))
            self.c0 = nn.Parameter(torch.randn(self.n_states, 1, 5))
        self.out = nn.Linear({"outputs": width * (2 if self.r.bidirectional else 1), "cell": 5}.get(end, width), 3)

    def initial(self, x):
        if self.start == "zeros":
            return None
        n = x.shape[0]
        if self.start == "given":
            h, c = (
                x.new_zeros(self.n_states, n, size)
                for size in (self.r.proj_size or self.r.hidden_size, self.r.hidden_size)
            )
        elif self.start == "learned":
            h, c = self.h0.expand(-1, n, -1).contiguous(), self.c0.expand(-1, n, -1).contiguous()
        else:
            h, c = (f(x[:, 0]).tanh().expand(self.n_states, -1, -1).contiguous() for f in (self.h0, self.c0))
        return (h, c) if self.kind == "lstm" else h

    def forward(self, x, lengths=None):
        first = self.r.batch_first
        y = torch.relu(self.embed(x))
        y = y if first else y.transpose(0, 1)
        if lengths is not None:
            y = pack_padded_sequence(y, lengths, batch_first=first, enforce_sorted=self.is_sorted)
        y, states = self.r(y, self.initial(x))
        if lengths is not None:
            y, _ = pad_packed_sequence(y, batch_first=first)
        h, c = states if self.kind == "lstm" else (states, states)
        if self.end in {"last", "states", "cell"}:
            y = {"last": h[-1], "states": h.sum(0), "cell": c.mean(0)}[self.end]
        return self.out(y)


@st.composite
def stacks(draw):
    torch.manual_seed(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(list(KINDS)))
    options = {
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.3])),
    }
    if options["num_layers"] == 1:
        options["dropout"] = 0.0
    if kind == "lstm":
        options["proj_size"] = draw(st.sampled_from([0, 3]))
    if kind == "rnn":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    end = draw(st.sampled_from(ENDS if kind == "lstm" else ENDS[:3]))
    lengths = draw(st.sampled_from([(), (3, 2), (2, 3)]))
    inputs = (torch.randn(2, 3, 4), torch.tensor(lengths)) if lengths else (torch.randn(2, 3, 4),)
    return Stack(kind, draw(st.sampled_from(STARTS)), end, is_sorted=lengths != (2, 3), **options), inputs


def kept_of(graph, data):
    kept = {}
    for group in graph.groups:
        if group.prunable:
            units = st.sets(st.integers(0, group.n_units - 1), min_size=group.min_units)
            kept[group.name] = tuple(sorted(data.draw(units)))
    return kept


def plan_of(graph, kept):
    return PruningPlan.from_kept(
        kept,
        {group.name: group.n_units for group in graph.groups},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="drawn",
        settings={},
        policy=graph.policy,
    )


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("n_examples", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_masked_equals_compact_on_random_stacks(n_examples):
    @settings(
        max_examples=n_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate],  # a smaller failing stack is not worth the minutes
    )
    @given(stacks(), st.data())
    def check(drawn, data):
        model, inputs = drawn
        graph = trace(model, inputs)
        assert hidden_units(graph).prunable
        plan = plan_of(graph, kept_of(graph, data))
        if not plan.removed_units:
            return
        compact = apply(model, plan, graph=graph, check=False, form=data.draw(st.sampled_from(["module", "graph"])))
        assert verify(model, plan, compact, graph=graph).relative_error < 1e-5
        if isinstance(compact, Stack):
            assert compact.r.hidden_size == len(plan.kept.get(hidden_units(graph).name, range(5)))
        counts = {name: len(units) for name, units in plan.kept.items()}
        again = trace(compact, inputs, policy=graph.policy)
        assert again.macs() == graph.macs(counts)
        assert again.parameters() == graph.parameters(counts)

    check()


class Handwritten(nn.Module):
    """An LSTM cell in the code of the network."""

    def __init__(self):
        super().__init__()
        self.hidden = 24
        self.w, self.h = nn.Linear(8 + 24, 96), nn.Linear(24, 4)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.hidden)
        for t in range(x.shape[1]):
            i, f, g, o = self.w(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = c * f.sigmoid() + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.h(h)


class Cells(nn.Module):
    """torch's cells in a loop, one after the other."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.LSTMCell(8, 7), nn.GRUCell(7, 6), nn.RNNCell(6, 5, nonlinearity="relu")
        self.h = nn.Linear(5, 4)

    def forward(self, x):
        a = b = c = None
        for t in range(x.shape[1]):
            a = self.a(x[:, t], a)
            b = self.b(a[0], b)
            c = self.c(b, c)
        return self.h(c)


class Shared(nn.Module):
    """Encoder and decoder: the states of one start the other."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(8, 6, batch_first=True)
        self.decoder = nn.LSTM(8, 6, batch_first=True)
        self.h = nn.Linear(6, 4)

    def forward(self, x):
        _, states = self.encoder(x)
        return self.h(self.decoder(x.flip(1), states)[0])


class Vocoder(nn.Module):
    """Samples drawn out of features at a lower rate, pieces of which are joined to each linear layer (WaveRNN)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv1d(8, 12, 1)
        self.a, self.r = nn.Linear(1 + 4, 6), nn.GRU(6, 6, batch_first=True)
        self.b, self.c, self.h = nn.Linear(6 + 4, 9), nn.Linear(9 + 4, 7), nn.Linear(7, 4)

    def forward(self, x):
        of_frames = self.features(x[:, ::2].transpose(1, 2))
        y = of_frames.repeat_interleave(2, -1).transpose(1, 2)
        x = self.a(torch.cat([x[..., :1], y[..., :4]], -1))
        x = torch.relu(self.b(torch.cat([x + self.r(x)[0], y[..., 4:8]], -1)))
        return self.h(torch.relu(self.c(torch.cat([x, y[..., 8:]], -1))))


class Gathered(nn.Module):
    """The output at the last valid step, by length."""

    def __init__(self):
        super().__init__()
        self.r, self.h = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, x):
        y, _ = self.r(x)
        last = (x[..., 0] > 0).sum(1).clamp(1) - 1
        return self.h(y.gather(1, last[:, None, None].expand(-1, 1, y.shape[2])).squeeze(1))


@pytest.mark.parametrize(
    ("kind", "form", "groups"),
    [
        (Handwritten, "module", {"w": 24}),
        (Cells, "module", {"a": 7, "b": 6, "c": 5}),
        (Shared, "module", {"encoder": 6}),
        (Gathered, "module", {"r": 6}),
        (Vocoder, "graph", {"features": 4, "features#2": 4, "features#3": 4, "a": 6, "b": 9, "c": 7}),
    ],
)
def test_cells_loops_and_shared_states_are_pruned(kind, form, groups, plan_for):
    torch.manual_seed(0)
    net = kind()
    graph = trace(net, (torch.randn(2, 4, 8),))
    assert {group.name: group.n_units for group in graph.groups if group.prunable} == groups
    plan = plan_for(graph)
    compact = apply(net, plan, graph=graph, form=form)
    counts = {name: len(units) for name, units in plan.kept.items()}
    again = trace(compact, (torch.randn(2, 4, 8),))
    assert (again.macs(), again.parameters()) == (graph.macs(counts), graph.parameters(counts))


@pytest.mark.slow
@pytest.mark.optional
def test_a_vocoder_is_pruned():
    models = pytest.importorskip("torchaudio.models")
    torch.manual_seed(0)
    small = {"n_classes": 12, "n_res_block": 1, "n_rnn": 24, "n_fc": 24, "n_freq": 10, "n_hidden": 16, "n_output": 16}
    net = models.WaveRNN(upsample_scales=[2, 2], hop_length=4, **small).eval()
    inputs = torch.randn(2, 1, 4 * 5), torch.randn(2, 1, 10, 9)  # kernels of 5 leave 5 of the 9 frames
    target = Target(of="flops", kept_fraction=0.5)
    pruned = create("l1").prune(PruningTask(model=net, example_inputs=inputs, target=target))
    assert pruned.model(*inputs).shape == net(*inputs).shape
    assert {"fc", "fc1", "fc2", "upsample.resnet.melresnet_model.0"} <= pruned.plan.kept.keys()


def test_a_hidden_unit_owns_a_row_of_each_gate_and_a_column_in_each_layer():
    graph = trace(Stack("lstm", "zeros", "outputs", num_layers=2, bidirectional=True), (torch.randn(2, 3, 4),))
    owned = {(member.path, member.axis): member.indices[1] for member in hidden_units(graph).members}
    for direction in ("", "_reverse"):
        for layer in (0, 1):
            gates = (1, 6, 11, 16)
            assert owned[f"r.weight_ih_l{layer}{direction}", 0] == gates
            assert owned[f"r.weight_hh_l{layer}{direction}", 0] == gates
            assert owned[f"r.bias_hh_l{layer}{direction}", 0] == gates
            assert owned[f"r.weight_hh_l{layer}{direction}", 1] == (1,)
        assert owned[f"r.weight_ih_l1{direction}", 1] == (1, 6)
    assert owned["out.weight", 1] == (1, 6)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_a_projected_unit_owns_a_row_of_the_projection_and_a_column_that_reads_it():
    graph = trace(Stack("lstm", "zeros", "outputs", proj_size=3), (torch.randn(2, 3, 4),))
    (projected,) = (g for g in graph.groups if any((m.path, m.axis) == ("r.weight_hr_l0", 0) for m in g.members))
    assert {(member.path, member.axis) for member in projected.members} == {
        ("r.weight_hr_l0", 0),
        ("r.weight_hh_l0", 1),
        ("out.weight", 1),
    }
    assert (projected.min_units, hidden_units(graph).min_units) == (1, 4)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning", "ignore:TF32 acceleration:UserWarning")
@pytest.mark.parametrize(
    ("kind", "options"),
    [("lstm", {}), ("lstm", {"proj_size": 3, "num_layers": 2}), ("gru", {"bidirectional": True}), ("rnn", {})],
)
def test_macs_agree_with_what_torch_counts(kind, options):
    net = Stack(kind, "zeros", "outputs", batch_first=True, **options).eval()
    x = torch.randn(1, 7, 4)
    with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False), torch.no_grad():
        net(x)
    assert 2 * trace(net, (x,)).macs() == counter.get_total_flops()


class Text(nn.Module):
    """Words to a class: embedding, LSTM, linear."""

    def __init__(self, *, batch_first=True):
        super().__init__()
        self.words = nn.Embedding(40, 16)
        self.r = nn.LSTM(16, 24, num_layers=2, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(48, 4)

    def forward(self, words):
        x = self.words(words)
        return self.head(self.r(x)[0][:, -1] if self.r.batch_first else self.r(x.transpose(0, 1))[0][-1])


def batches():
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randint(0, 40, (8, 5), generator=generator), torch.randint(0, 4, (8,), generator=generator)


@pytest.mark.parametrize(
    ("method", "settings", "batch_first"),
    [
        pytest.param("l1", {}, True, marks=pytest.mark.slow),
        ("random", {}, False),
        ("criterion", {"criterion": "taylor", "batches_per_step": 2}, True),
        pytest.param("criterion", {"criterion": "taylor", "batches_per_step": 2}, False, marks=pytest.mark.slow),
        pytest.param(
            "criterion", {"criterion": "activation_std", "batches_per_step": 2}, False, marks=pytest.mark.slow
        ),
        pytest.param("criterion", {"criterion": "fpgm"}, True, marks=pytest.mark.slow),
    ],
)
def test_a_text_model_reaches_half_of_its_flops(method, settings, batch_first):
    torch.manual_seed(0)
    task = PruningTask(
        model=Text(batch_first=batch_first),
        example_inputs=(torch.randint(0, 40, (2, 5)),),
        target=Target(of="flops", kept_fraction=0.5),
        batches=batches,
        loss=nn.functional.cross_entropy,
    )
    pruned = create(method, **settings).prune(task)
    assert isinstance(pruned.model, Text)
    assert 0.4 < pruned.macs_after / pruned.macs_before <= 0.5
    assert pruned.model.r.hidden_size < 24


def test_a_score_per_example_is_the_same_whichever_axis_comes_first():
    torch.manual_seed(0)
    first, second = Text(), Text(batch_first=False)
    second.load_state_dict(first.state_dict())
    words, labels = next(batches())
    scores = [
        taylor_scores(trace(net, (words,)), [(words, labels)], nn.functional.cross_entropy, groups=["r"]).scores["r"]
        for net in (first, second)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def hidden_units(graph):
    """Return the group that owns the rows of the gates."""
    (group,) = (g for g in graph.groups if any((m.path, m.axis) == ("r.weight_ih_l0", 0) for m in g.members))
    return group
