"""Torch-Pruning as a competitor: its plan meets our targets, is checked like ours, and its absence is one line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pruners import registry, testing
from pruners.decide.choices import choices_of
from pruners.errors import MethodError, TargetError
from pruners.graph import trace
from pruners.methods import group_norm
from pruners.methods.group_norm import GroupNorm
from pruners.registry import create
from pruners.target import Constraints, Target

FREE = Constraints()


def prune(network="plain", constraints=FREE, **changes):
    task = testing.make_task(testing.make_network(network), constraints=constraints, **changes)
    return create("torch-pruning").prune(task)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(group_norm, "find_spec", lambda name: None)
    assert "torch-pruning" not in registry.names()
    task = testing.make_task(testing.make_network("plain"))
    with pytest.raises(MethodError, match=r"'torch-pruning': the library is not installed: pip install .*\[compare\]"):
        GroupNorm()._decide(task, None)


def test_channels_that_layers_lost_become_units():
    free = {"a": [("g", ((0,), (1,), (2,)))], "b": [("g", ((0, 1), (2, 3), (4, 5)))], "c": [("h", ((0,), (1,)))]}
    sizes = {"g": 3, "h": 2}
    gone = {"a": {1}, "b": {2, 3}, "c": set()}
    assert group_norm._units_of(free, gone, sizes) == {"g": (0, 2)}
    for other in ({2, 3, 4}, {0, 1}, set()):
        with pytest.raises(MethodError, match="does not couple the channels of 'b'"):
            group_norm._units_of(free, {**gone, "b": other}, sizes)


def test_an_error_inside_the_library_is_told_as_such(monkeypatch):
    def pruner(*args, **settings):
        raise IndexError("index 384 is out of bounds\nlook at line 7")

    library = SimpleNamespace(
        pruner=SimpleNamespace(GroupNormPruner=pruner), importance=SimpleNamespace(GroupMagnitudeImportance=object)
    )
    monkeypatch.setattr(group_norm, "import_module", lambda name: library)
    task = testing.make_task(testing.make_network("plain"))
    graph = trace(task.model, task.example_inputs)
    with pytest.raises(MethodError, match=r"fails on this network \(IndexError: index 384 is out of bounds\)$"):
        group_norm.kept_by_library(task, graph, choices_of(graph.groups, task.constraints), 0.5)


@pytest.mark.optional
@pytest.mark.parametrize("network", testing.NETWORKS)
def test_its_plan_meets_the_target(network):
    pytest.importorskip("torch_pruning")
    pruned = prune(network)
    assert 0.4 < pruned.macs_after / pruned.macs_before <= 0.6
    assert prune(network).plan == pruned.plan


def test_a_correction_near_a_plan_keeps_counts_within_its_ranges(monkeypatch):
    """As the landing of a speed asks for; where none of the library's removals are within them, it says so."""
    monkeypatch.setattr(GroupNorm, "lacking", classmethod(lambda cls: ""))

    def kept_by_library(task, graph, choices, ratio):
        sizes = {name: max(1, round((1 - ratio) * size)) for name, size in choices.whole.items()}
        return {name: tuple(range(count)) for name, count in sizes.items() if count < choices.whole[name]}

    monkeypatch.setattr(group_norm, "kept_by_library", kept_by_library)
    target = Target(of="flops", kept_fraction=0.5)
    free = prune(constraints=FREE, target=target).plan.kept
    near = {name: (len(kept) - 1, len(kept) + 1) for name, kept in free.items()}
    again = prune(constraints=Constraints(ranges=near), target=target).plan.kept
    assert all(near[name][0] <= len(kept) <= near[name][1] for name, kept in again.items())
    name, kept = next(iter(free.items()))
    with pytest.raises(TargetError, match="at no share that the library can remove"):
        prune(constraints=Constraints(ranges={name: (1, len(kept) - 2)}), target=target)


@pytest.mark.optional
def test_it_rounds_and_leaves_out_as_it_is_told():
    pytest.importorskip("torch_pruning")
    kept = prune("depthwise", Constraints(multiple_of=4, exclude=("stem",))).plan.kept
    assert kept
    assert "stem" not in kept
    assert all(len(units) % 4 == 0 for units in kept.values())


@pytest.mark.optional
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"constraints": Constraints(min_fraction=0.5)}, "does not support min_fraction"),
        ({"target": Target(of="ratios", ratios={"conv": 0.5})}, "ask for a cost or a speed"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, told):
    pytest.importorskip("torch_pruning")
    with pytest.raises(MethodError, match=told):
        prune(**changes)


def test_its_class_is_described():
    assert GroupNorm.name == "torch-pruning"
    assert registry.method_class("torch-pruning") is GroupNorm
