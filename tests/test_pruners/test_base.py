"""The base class keeps its word even when a method does not, and the registry says what there is."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from pydantic import Field

from pruners import registry
from pruners.base import Method, MethodSettings, Outcome, plan_of
from pruners.errors import MethodError, NothingToPruneError, UnknownMethodError
from pruners.graph import trace
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

FREE = Constraints()


class Fixed(Method):
    """Keeps what it is told to."""

    name = "fixed"
    paper = "none"

    def __init__(self, kept, **settings):
        super().__init__(**settings)
        self.kept = kept

    def _decide(self, task, graph):
        return Outcome(plan=plan_of(self, graph, self.kept))


class Knobs(MethodSettings):
    """Two settings."""

    steps: int = Field(3, gt=0, description="how many")
    strength: float = Field(0.5, description="how much")


class WithKnobs(Fixed):
    """Has settings."""

    Settings = Knobs


def task(**changes):
    return make_task(make_network("plain"), **{"target": Target(of="ratios", ratios={"conv": 0.5}), **changes})


def test_a_plan_that_keeps_its_word_goes_through():
    pruned = Fixed({"conv": (0, 2, 4, 6, 8, 10)}).prune(task())
    assert pruned.plan.method == "fixed"
    assert pruned.model.conv.weight.shape[0] == 6


@pytest.mark.parametrize(
    ("kept", "changes", "said"),
    [
        ({"conv": (0, 1)}, {}, "does not follow the ratios"),
        ({"conv": (0, 1, 2)}, {}, "keeps 3 units; the constraints allow"),
        ({"stem": (0, 1, 2, 3)}, {}, "group 'stem' is excluded"),
        ({"fc": (0, 1)}, {"constraints": FREE}, r"keeps 2 units; the constraints allow \[5\]"),
        (
            {"conv": tuple(range(10))},
            {"target": Target(of="flops", kept_fraction=0.5)},
            "does not meet the target of 0.5 of flops",
        ),
    ],
)
def test_a_broken_promise_is_named(kept, changes, said):
    with pytest.raises(MethodError, match=f"'fixed' .Fixed. broke a promise of pruning methods: .*{said}"):
        Fixed(kept).prune(task(**changes))


def test_a_plan_that_removes_nothing_is_an_error():
    with pytest.raises(NothingToPruneError, match="removes no unit"):
        Fixed({"conv": tuple(range(12))}).prune(task())


def test_a_method_that_touches_the_model_is_caught():
    class Vandal(Fixed):
        def _decide(self, task, graph):
            task.model.norm.running_mean.data.add_(1e-3)
            return super()._decide(task, graph)

    with pytest.raises(MethodError, match="model was modified"):
        Vandal({"conv": (0, 1, 2, 3, 4, 5)}).prune(task())


def test_a_method_that_leaves_the_model_in_another_mode_is_caught():
    class Sleepy(Fixed):
        def _decide(self, task, graph):
            task.model.eval()
            return super()._decide(task, graph)

    with pytest.raises(MethodError, match="model was modified"):
        Sleepy({"conv": (0, 1, 2, 3, 4, 5)}).prune(task())


def test_a_plan_for_a_later_network_is_caught():
    class Forgetful(Fixed):
        def _decide(self, task, graph):
            first = plan_of(self, graph, {"conv": tuple(range(8))})
            later = trace(apply(task.model, first, graph=graph, check=False), task.example_inputs)
            return Outcome(plan=plan_of(self, later, {"conv": (0, 1, 2, 3, 4, 5)}))

    with pytest.raises(MethodError, match="join the plans"):
        Forgetful({}).prune(task())


def test_a_network_that_is_not_the_plans_is_caught():
    class Swapper(Fixed):
        def _decide(self, task, graph):
            other = apply(task.model, plan_of(self, graph, {"conv": (0, 1)}), graph=graph, check=False)
            return Outcome(plan=plan_of(self, graph, self.kept), model=other)

    with pytest.raises(MethodError, match="not the one that its plan describes"):
        Swapper({"conv": (0, 1, 2, 3, 4, 5)}).prune(task())


def test_modes_of_single_layers_survive_a_method_that_trains():
    class Trainer(Fixed):
        def _decide(self, task, graph):
            plan = plan_of(self, graph, self.kept)
            return Outcome(plan=plan, model=apply(task.model, plan, graph=graph, check=False).train())

    asked = task()
    asked.model.norm.eval()
    pruned = Trainer({"conv": (0, 1, 2, 3, 4, 5)}).prune(asked)
    assert pruned.model.training
    assert not pruned.model.norm.training


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"step": 2}, "unknown setting 'step'; did you mean 'steps'"),
        ({"zzz": 2}, r"unknown setting 'zzz' \(there are: steps, strength\)"),
        ({"steps": 0}, "setting 'steps': input should be greater than 0, got 0"),
        ({"strength": "much"}, "setting 'strength': .* got 'much'"),
    ],
)
def test_settings_are_closed_and_checked(settings, said):
    with pytest.raises(MethodError, match=said):
        WithKnobs({}, **settings)


def test_a_method_without_settings_says_so():
    with pytest.raises(MethodError, match="has no settings, got 'steps'"):
        Fixed({}, steps=1)


def test_settings_travel_in_the_plan():
    pruned = WithKnobs({"conv": (0, 1, 2, 3, 4, 5)}, steps=5).prune(task())
    assert pruned.plan.settings == {"steps": 5, "strength": 0.5}


def test_names():
    assert registry.names()[:3] == ("l1", "criterion", "taylor")
    assert set(registry.names("channels")).isdisjoint(registry.names("weights"))


def test_an_unknown_method_is_an_error_with_a_suggestion():
    with pytest.raises(UnknownMethodError, match="'tailor'; did you mean 'taylor'"):
        registry.create("tailor")


def entry_points(monkeypatch, *points):
    found = [EntryPoint(name=name, value=value, group=registry.ENTRY_POINT_GROUP) for name, value in points]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)


def test_an_outsider_joins_by_an_entry_point(monkeypatch):
    entry_points(monkeypatch, ("mine", "pruners.methods.uniform:Uniform"))
    assert registry.names()[-1] == "mine"
    assert isinstance(registry.create("mine"), Method)


def test_two_methods_of_one_name_are_an_error(monkeypatch):
    entry_points(monkeypatch, ("l1", "other.package:Method"))
    with pytest.raises(MethodError, match=r"'l1' is registered twice: .*other\.package:Method"):
        registry.names()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_package:Method", "cannot be loaded"),
        ("pruners.plan:Nothing", "cannot be loaded"),
        ("pruners.plan:PruningPlan", "is not a subclass"),
    ],
)
def test_an_entry_that_is_no_method_is_an_error(monkeypatch, value, said):
    entry_points(monkeypatch, ("mine", value))
    with pytest.raises(MethodError, match=said):
        registry.create("mine")


def test_listing_and_making_methods_imports_no_torch():
    program = (
        "import sys\n"
        "from pruners.registry import create, method_class, names\n"
        "assert [create(name) for name in names()] and method_class('taylor').paper\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_half_precision_and_empty_buffers_are_hashed():
    model = make_network("plain")
    model.register_buffer("nothing", torch.empty(0))
    model.register_buffer("coarse", torch.ones(3, dtype=torch.bfloat16), persistent=False)
    model.register_buffer("flag", torch.tensor(True))
    asked = task()
    pruned = Fixed({"conv": (0, 1, 2, 3, 4, 5)}).prune(make_task(model, target=asked.target))
    assert pruned.model.coarse.dtype == torch.bfloat16
