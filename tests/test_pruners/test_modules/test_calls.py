"""Example inputs in every form in which people have them."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from pruners.errors import InputError, PlanError
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.task import PruningTask

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
KEYWORDS = {"states": {"h": [torch.ones(3, 5)], "c": None}, "mask": torch.ones(3, 1), "mode": "soft", "scale": 2}


@dataclass
class Scores:
    """As transformers return them."""

    logits: Tensor
    hidden: Tensor | None = None


Pair = namedtuple("Pair", ["logits", "extra"])


class Network(nn.Module):
    def __init__(self, returns=Scores) -> None:
        super().__init__()
        self.first, self.last, self.returns = nn.Linear(4, 16), nn.Linear(16, 5), returns

    def forward(self, x, flag=True, *, mask=None, scale=1.0, states=None, mode="hard"):
        x = self.first(x) * scale
        x = torch.relu(x if mask is None else x * mask)
        x = self.last(x) if flag else self.last(x) * 2
        if states is not None and mode == "soft":
            x = x + states["h"][0]
        return self.returns(x) if self.returns is Scores else self.returns(x, {"x": [x, None]})


def prune(network, example_inputs, form="auto"):
    target, constraints = Target(of="params", kept_fraction=0.6), Constraints(form=form)
    task = PruningTask(model=network, example_inputs=example_inputs, target=target, constraints=constraints)
    return create("l1").prune(task)


@pytest.mark.parametrize(
    "example_inputs",
    [X, (X,), [X, False], {"x": X}, UserDict(x=X), ((X,), {"scale": 3}), ((X, False), KEYWORDS), {**KEYWORDS, "x": X}],
    ids=["tensor", "tuple", "list", "dict", "mapping", "both", "everything", "keywords"],
)
@pytest.mark.parametrize("form", ["module", "graph"])
def test_a_network_is_pruned_whatever_it_is_called_with(example_inputs, form):
    pruned = prune(Network(), example_inputs, form)
    assert pruned.params_after < 0.6 * pruned.params_before
    plan = PruningPlan.model_validate_json(pruned.plan.model_dump_json())
    assert plan == pruned.plan
    again = apply(Network(), plan)  # traced with inputs that the plan describes
    assert again.first.weight.shape == pruned.model.get_parameter("first.weight").shape


@pytest.mark.parametrize("returns", [Scores, Pair], ids=["dataclass", "namedtuple"])
def test_the_graph_form_returns_the_classes_that_the_network_returns(returns):
    network = Network(returns).eval()
    graph = prune(network, {**KEYWORDS, "x": X}, "graph").model
    result = graph(x=X, **KEYWORDS)
    assert type(result) is returns
    assert result.logits.shape == (3, 5)


def test_a_plan_of_tensors_by_position_is_written_as_before():
    plan = prune(Network(), (X,)).plan
    assert "call" not in plan.model_dump(mode="json")
    assert plan.inputs[0].shape == (3, 4)


def test_a_plan_says_when_it_cannot_describe_the_call():
    class Takes(nn.Sequential):
        def forward(self, pair):
            return super().forward(pair.logits)

    network = Takes(nn.Linear(4, 16), nn.Linear(16, 2))
    plan = prune(network, (Pair(X, None),)).plan
    with pytest.raises(PlanError, match=r"does not say how the network is called .*Pair.*hand in its graph"):
        apply(network, plan)


@pytest.mark.parametrize(
    ("example_inputs", "says"),
    [
        ("abc", "is of type str; give a tensor"),
        (3, "is of type int; give a tensor"),
        (X.numpy(), "is a numpy ndarray .torch.from_numpy"),
        ((X.numpy(),), r"\[0\] is a numpy ndarray"),
        ({"mask": [X, {1}]}, r"\[kwargs\]\['mask'\]\[1\] is of type set"),
        ((), "holds no tensor"),
        ({"x": 1.0}, "holds no tensor"),
        ({"xs": X}, r"has no argument 'xs'; did you mean 'x'\? \(a dict by position: write \(dict,\)\)"),
        (((X,), {"masks": X}), "has no argument 'masks'; did you mean 'mask'"),
        ((X,) * 9, "do not fit Network.forward.*too many positional"),
        ({"mask": X}, "missing a required argument: 'x'"),
    ],
)
def test_other_kinds_are_one_line_that_says_what_to_give(example_inputs, says):
    with pytest.raises(InputError, match=says) as error:
        prune(Network(), example_inputs)
    assert "\n" not in str(error.value)


def test_a_pair_of_a_list_and_a_dict_goes_by_position_where_the_network_takes_two():
    class Two(nn.Sequential):
        def forward(self, xs, options):
            return super().forward(xs[0] * options["scale"])

    pruned = prune(Two(nn.Linear(4, 16), nn.Linear(16, 2)), ([X], {"scale": X[:1]}))
    assert pruned.model([X], {"scale": X}).shape == (3, 2)
