"""The check runs on inputs like the user's: a network valid on its example is pruned, a wrong one still seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.errors import PlanError, SurgeryError, VerificationError
from pruners.forms.compact import load, save_weights
from pruners.graph import trace
from pruners.modules.calls import NetworkCall
from pruners.modules.outputs import Examples
from pruners.modules.random_inputs import random_call, random_inputs, spec_of
from pruners.plan import InputSpec, PruningPlan
from pruners.surgery import apply
from pruners.verify import verify


class Head(nn.Module):
    """Three layers behind what a subclass computes from its inputs."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.a, self.b, self.h = nn.Linear(features, 32), nn.Linear(32, 24), nn.Linear(24, 4)
        self.gain = 1.0

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.h(torch.relu(self.b(torch.relu(self.a(self.features(*inputs))) * self.gain)))


class Power(Head):
    def features(self, power):
        return torch.log(power)


class Logit(Head):
    def features(self, p):
        return torch.log(p / (1 - p))


class Times(Head):
    def features(self, times):
        return torch.log(times.diff(dim=1))


class Divided(Head):
    def features(self, x, y):
        return (x % y).float() / y


class OneHot(Head):
    def features(self, x):
        return F.one_hot(x, 8).float()


class Cholesky(Head):
    def features(self, matrix):
        return torch.linalg.cholesky(matrix).flatten(1)


class Double(Head):
    def features(self, x):
        return x + torch.ones(8, dtype=torch.float64)


class Lengths(Head):
    """Attention pooling over the first `lengths` frames."""

    def features(self, x, lengths):
        outside = torch.arange(x.shape[1])[None] >= lengths[:, None]
        share = x.sum(-1).masked_fill(outside, float("-inf")).softmax(1)
        return (share.unsqueeze(-1) * x).sum(1)


class Mask(Head):
    """At least one key is seen by each query."""

    def features(self, x, mask):
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask).mean(1)


class Bag(Head):
    def __init__(self):
        super().__init__(8)
        self.bag = nn.EmbeddingBag(50, 8)

    def features(self, ids, offsets):
        return self.bag(ids, offsets)


class Table(Head):
    def __init__(self):
        super().__init__(8)
        self.rows = nn.Parameter(torch.randn(5, 8))

    def features(self, i):
        return self.rows[i]


class Ordered(Head):
    """Says nothing of times out of order."""

    def forward(self, times):
        return super().forward(times) * (times.diff(dim=1) > 0).all(1, keepdim=True)

    def features(self, times):
        return times


class Illegal(Head):
    """Scores of moves that are not legal are minus infinity."""

    def forward(self, x, legal):
        return super().forward(x).masked_fill(~legal, float("-inf"))

    def features(self, x):
        return x


def made(name: str) -> tuple[Head, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 8)
    square = torch.randn(2, 4, 4)
    cases = {
        "power": lambda: (Power(8), (torch.rand(3, 8) + 0.1,)),
        "ones": lambda: (Power(8), (torch.ones(1, 8),)),
        "probabilities": lambda: (Logit(8), (torch.rand(2, 8) * 0.8 + 0.1,)),
        "sorted": lambda: (Times(8), (torch.rand(2, 9).cumsum(1),)),
        "ordered": lambda: (Ordered(30), (torch.rand(3, 30).cumsum(1) * torch.tensor([[1.0], [3.0], [9.0]]),)),
        "divisors": lambda: (Divided(8), (torch.randint(0, 50, (2, 8)), torch.randint(1, 5, (2, 8)))),
        "classes": lambda: (OneHot(8), (torch.tensor([[1, 2], [7, 3]]),)),
        "definite": lambda: (Cholesky(16), (square @ square.mT + torch.eye(4),)),
        "double": lambda: (Double(8).double(), (torch.randn(2, 8).double(),)),
        "lengths": lambda: (Lengths(8), (x, torch.tensor([6, 2, 1]))),
        "mask": lambda: (Mask(8), (x[:2, :3], torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).bool().repeat(2, 1, 1))),
        "bag": lambda: (Bag(), (torch.randint(0, 50, (8,)), torch.tensor([0, 3, 5]))),
        "table": lambda: (Table(), (torch.tensor([0, 4, 3]),)),
        "illegal": lambda: (Illegal(8), (torch.randn(2, 8), torch.tensor([[1, 0, 1, 1], [1, 1, 1, 0]]).bool())),
    }
    model, inputs = cases[name]()
    return model.eval(), inputs


NAMES = (
    "power", "ones", "probabilities", "sorted", "ordered", "divisors", "classes", "definite", "double", "lengths",
    "mask", "bag", "table", "illegal",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_network_valid_on_its_example_is_pruned_and_a_mistake_seen(name, plan_for, tmp_path):
    model, inputs = made(name)
    graph = trace(model, inputs)
    plan = plan_for(graph)
    compact = apply(model, plan, graph=graph)
    assert type(compact) is type(model)

    plan.save(tmp_path / "plan.json")
    save_weights(compact, tmp_path / "weights")
    known = name not in (
        "sorted",
        "ordered",
        "definite",
    )  # what a plan says of their inputs, bounds, is not enough to make some
    again = load(model, PruningPlan.load(tmp_path / "plan.json"), tmp_path / "weights", graph=None if known else graph)
    assert type(again) is type(model)
    assert torch.equal(again(*inputs), compact(*inputs))

    compact.gain = 1.01
    with pytest.raises(VerificationError, match="masked and compact network differ"):
        verify(model, plan, compact, graph=graph)


@pytest.mark.parametrize("name", ["sorted", "definite"])
def test_a_plan_that_says_too_little_of_the_inputs_is_one_line(name, plan_for):
    model, inputs = made(name)
    with pytest.raises(SurgeryError, match=r"^[^\n]*hand in a graph that was traced with inputs which it takes$"):
        apply(model, plan_for(trace(model, inputs)))


def test_values_are_those_of_the_example():
    example = NetworkCall(
        (torch.rand(4, 3) + 1, torch.tensor([[3], [9], [9], [4]])), {"mask": torch.tensor([True, False, True, True])}
    )
    drawn = random_call(example, batch=50, seed=1)
    assert [tuple(tensor.shape) for tensor in drawn.tensors] == [(50, 3), (50, 1), (50,)]
    for tensor, given in zip(drawn.tensors, example.tensors, strict=True):
        assert tensor.dtype == given.dtype
        for column, own in zip(tensor.reshape(50, -1).T.tolist(), given.reshape(4, -1).T.tolist(), strict=True):
            assert set(column) == set(own)
    numbers = random_call(example, batch=2, source="numbers")
    assert numbers.tensors[1].tolist() == [[3], [9]]
    assert not torch.equal(numbers.tensors[0], example.tensors[0][::2])
    rows = random_call(example, batch=2, source="example")
    assert torch.equal(rows.tensors[0], example.tensors[0][::2])
    assert torch.equal(random_call(example, source="example").tensors[0], example.tensors[0])


def test_one_row_stays_near_itself():
    boxes = torch.tensor([[0.0, 4.5, 4.5, 20.0, 24.0]])
    given = (boxes, torch.tensor([[0.0, 1.0, 200.0]]), torch.arange(1, 9)[None], torch.randn(1, 9, dtype=torch.cfloat))
    drawn = random_call(NetworkCall(tuple(item.expand(3, -1) for item in given)), batch=2).tensors
    assert drawn[0][:, 0].tolist() == [0, 0]
    assert bool(((drawn[0] - boxes).abs() <= 0.2 * boxes).all()) and float(drawn[0].max()) <= 24
    assert torch.equal(drawn[1], drawn[1].round())
    assert drawn[1][:, :2].tolist() == [[0, 1], [0, 1]]
    assert int(drawn[2].min()) >= 1 and int(drawn[2].max()) <= 8
    for tensor in drawn:
        assert not torch.equal(tensor[0], tensor[1])


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        (torch.zeros(1, 64), -9, 9),
        (torch.full((1, 64), 8.0), 4, 12),
        (torch.full((1, 64), -2.0), -3, -1),
        (torch.ones(1, 64, dtype=torch.long), 0, 1),
        (torch.full((1, 64), 7), 0, 7),
    ],
)
def test_values_that_are_all_the_same_are_drawn_around_it(given, low, high):
    (drawn,) = random_call(NetworkCall((given,)), batch=2).tensors
    assert drawn.dtype == given.dtype
    assert low <= int(drawn.min()) and float(drawn.max()) <= high
    assert len(drawn.unique()) > 1


@pytest.mark.parametrize("hidden", [False, True])
def test_truth_values_that_are_all_the_same_stay(hidden):
    call = NetworkCall((torch.full((4, 3), hidden),))
    for seed in range(5):
        (mask,) = random_call(call, batch=2, seed=seed).tensors
        assert mask.shape == (2, 3)
        assert bool((mask == hidden).all())


def test_what_a_network_cannot_take_comes_from_the_example():
    class Sorted(nn.Module):
        def forward(self, x, lengths):
            return nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True).data

    example = NetworkCall((torch.randn(3, 4, 2), torch.tensor([4, 2, 1])))
    examples = Examples(example)
    _, one, two = examples.runs(Sorted, seed=0, any_batch=True)
    assert (one.batch, two.batch) == (1, 2)
    for seed in range(9):
        _, own, _ = examples.runs(Sorted, seed=seed, any_batch=False)
        lengths = own.inputs.tensors[1].tolist()
        assert own.batch is None
        assert lengths == sorted(lengths, reverse=True)


def test_an_input_is_described_by_its_bounds_and_a_few_integers_by_all():
    given = (
        torch.tensor([[0.25, 4.0], [float("inf"), 1.0]]),
        torch.tensor([9, 2]),
        torch.arange(2000),
        torch.eye(2) > 0,
    )
    specs = [spec_of(tensor) for tensor in given]
    assert (specs[0].low, specs[0].high) == (0.25, 4)
    drawn = random_inputs(specs)
    assert bool(((drawn[0] >= 0.25) & (drawn[0] <= 4)).all())
    assert torch.equal(drawn[1], given[1]) and torch.equal(drawn[3], given[3])
    assert drawn[2].shape == (2000,) and 0 <= int(drawn[2].min()) < int(drawn[2].max()) < 2000
    for spec in specs:
        assert InputSpec.model_validate_json(spec.model_dump_json()) == spec
    assert InputSpec(shape=(2, 3)).model_dump(mode="json") == {"shape": [2, 3], "dtype": "float32"}


def test_a_damaged_description_is_one_line(tmp_path, plan_for):
    model, inputs = made("lengths")
    path = tmp_path / "plan.json"
    plan_for(trace(model, inputs)).save(path)
    text = path.read_text()
    assert '"values"' in text
    path.write_text(text.replace('"values": [', '"values": [7,', 1))
    with pytest.raises(PlanError, match=r"not a pruning plan: .*4 values"):
        PruningPlan.load(path)
