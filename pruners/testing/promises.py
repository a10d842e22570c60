"""Checks of one pruned network: functions of a `MethodRun` that raise if a promise does not hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from pruners.decide.choices import choices_of
from pruners.decide.goal import budget_of
from pruners.errors import MethodError
from pruners.graph import Graph, trace
from pruners.plan import PruningPlan
from pruners.recover.fit import Epoch
from pruners.registry import create
from pruners.removals import RemovalFolder
from pruners.surgery import apply
from pruners.task import Pruned, PruningTask, Removals
from pruners.testing.networks import CLASSES, SIDE, RandomFit, make_network, make_task

__all__ = ["PROMISES", "MethodRun", "prune_or_skip", "run"]


@dataclass(frozen=True, eq=False)
class MethodRun:
    """One method, run once on one network.

    Parameters
    ----------
    method : str
        Registered name.
    settings : Mapping
        Settings of the method.
    task : PruningTask
        The task it was given.
    before : Mapping of str to Tensor
        The model's state before it was pruned.
    pruned : Pruned
        Its result.
    graph : Graph
        Trace of the task's model.
    epochs : int
        Epochs trained, over all its trainings.
    steps_kept : int
        How often it saved its progress with the task's keeper.
    updates : int
        Updates it fine-tuned, with the task's ``train``.
    """

    method: str
    settings: Mapping[str, Any]
    task: PruningTask
    before: Mapping[str, Tensor] = field(repr=False)
    pruned: Pruned
    graph: Graph = field(repr=False)
    epochs: int
    steps_kept: int = 0
    updates: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Kept units of each group that lost some."""
        return {name: len(kept) for name, kept in self.pruned.plan.kept.items()}


def run(method: str, network: str, **settings: Any) -> MethodRun:
    """Prune `network` with `method`; cached for equal arguments."""
    return _run(method, network, tuple(sorted(settings.items())))


@cache
def _run(method: str, network: str, settings: tuple[tuple[str, Any], ...]) -> MethodRun:
    model = make_network(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = RandomFit()
    task = make_task(model, fit=training)
    counts, updates = _Counts(), _Updates(task.train)
    pruned = prune_or_skip(method, dict(settings), replace(task, keeper=counts, train=updates))
    graph = trace(model, task.example_inputs)
    return MethodRun(method, dict(settings), task, before, pruned, graph, training.epochs, counts.n, updates.n)


def prune_or_skip(method: str, settings: Mapping[str, Any], task: PruningTask) -> Pruned:
    """Prune, or skip if the method refuses a network that lacks the layers it needs."""
    made = create(method, **settings)
    try:
        return made.prune(task)
    except MethodError as error:
        if made.needs_layers and made.needs_layers in str(error):
            raise SkipTest(str(error)) from error
        raise


def training_is_told(done: MethodRun) -> None:
    """Check that `trains` names the training that the method did: who prunes to a speed relies on it."""
    told = create(done.method, **done.settings).trains
    assert not done.epochs or told == "fit"
    assert not done.updates or told == "train"


def model_is_unchanged(done: MethodRun) -> None:
    """Check that weights, statistics, gradients and modes of the task's model are unchanged."""
    now = done.task.model.state_dict()
    assert now.keys() == done.before.keys()
    assert all(torch.equal(now[name], tensor) for name, tensor in done.before.items())
    assert all(parameter.grad is None for parameter in done.task.model.parameters())
    assert all(module.training for module in done.task.model.modules())


def kept_units_are_legal(done: MethodRun) -> None:
    """Check that every listed group is prunable, and keeps a count that the constraints allow."""
    legal = choices_of(done.graph.groups, done.task.constraints).legal
    assert done.pruned.plan.removes
    for name, kept in done.pruned.plan.kept.items():
        assert len(kept) in legal[name], f"{name} keeps {len(kept)} of {legal[name]}"
        assert sorted(set(kept)) == list(kept)
        assert set(kept) <= set(range(done.graph.group(name).n_units))


def excluded_groups_are_whole(done: MethodRun) -> None:
    """Check that the layer that the task excludes keeps all its channels."""
    assert "stem" not in done.counts
    assert done.pruned.model.get_parameter("stem.weight").shape[0] == 8


def target_is_met(done: MethodRun) -> None:
    """Check that the cost lands at or below the target, and by less than what one step of one group costs."""
    legal = choices_of(done.graph.groups, done.task.constraints)
    budget = budget_of(done.task.target, done.graph, done.pruned.plan.blocks)
    counts = done.counts
    slack = budget.limit - budget.cost(counts)
    steps = [
        budget.cost({**counts, name: larger}) - budget.cost(counts)
        for name, count in counts.items()
        if (larger := legal.above(name, count)) is not None
    ]
    assert 0 <= slack < max(steps), f"{slack} below the target, where one step is {sorted(steps)}"


def counts_are_measured(done: MethodRun) -> None:
    """Check that the reported MACs and parameters are those of the compact network, as its plan predicts."""
    pruned = done.pruned
    compact = trace(pruned.model, done.task.example_inputs)
    blocks = pruned.plan.blocks
    assert pruned.macs_after == compact.macs() == done.graph.macs(done.counts, blocks)
    assert pruned.params_after == sum(parameter.numel() for parameter in pruned.model.parameters())
    assert pruned.params_after == done.graph.parameters(done.counts, blocks)
    assert (pruned.macs_before, pruned.params_before) == (done.graph.macs(), done.graph.parameters())
    assert pruned.macs_after < pruned.macs_before


def compact_network_was_verified(done: MethodRun) -> None:
    """Check that masked and compact network were compared, on channels that were really removed."""
    verification = done.pruned.verification
    assert verification["removed_channels"] > 0 or done.pruned.plan.blocks
    assert verification["relative_error"] <= verification["tolerance"]


def compact_network_is_the_users_own(done: MethodRun) -> None:
    """Check that it has the original's class and modes, shares no weight with it, and runs at other batch sizes."""
    dense, compact = done.task.model, done.pruned.model
    assert type(compact) is type(dense)
    modes = {name: module.training for name, module in dense.named_modules()}
    gone = modes.keys() - {name for name, _ in compact.named_modules()}
    assert all(modes[name] == module.training for name, module in compact.named_modules())
    assert all(any(name.startswith(f"{block}.") for block in done.pruned.plan.blocks) for name in gone)
    own = {parameter.data_ptr() for parameter in dense.parameters()}
    assert not any(parameter.data_ptr() in own for parameter in compact.parameters())
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in compact.parameters())
    assert copy.deepcopy(compact)(torch.zeros(3, 3, SIDE, SIDE)).shape == (3, CLASSES)


def plan_survives_json(done: MethodRun) -> None:
    """Check that the plan, written and read, cuts the original into a network of the same shapes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        done.pruned.plan.save(path)
        plan = PruningPlan.load(path)
    assert plan == done.pruned.plan
    assert plan.method == done.method
    again = apply(done.task.model, plan)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in done.pruned.model.state_dict().items()
    }


def same_seed_gives_the_same_network(done: MethodRun) -> None:
    """Check that plan and weights come out alike a second time, whatever torch's generator was seeded with."""
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        again = create(done.method, **done.settings).prune(done.task)
    assert again.plan == done.pruned.plan
    first, second = done.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def killed_training_goes_on(done: MethodRun) -> None:
    """Check that a method that trains in epochs, killed in its third one and run again, gives the same network."""
    if not done.epochs:
        return
    with TemporaryDirectory() as folder:
        interrupted = RandomFit(Path(folder), _Killer(min(3, done.epochs)))
        try:
            create(done.method, **done.settings).prune(replace(done.task, fit=interrupted))
        except _KilledError:
            again = create(done.method, **done.settings).prune(replace(done.task, fit=RandomFit(Path(folder))))
        else:
            raise AssertionError("it trained less than the first time")
    assert again.plan == done.pruned.plan
    first, second = done.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


class _KilledError(Exception):
    pass


class _Killer:
    """Ends the training of epoch `last`, counted over all trainings, as a killed process would."""

    def __init__(self, last: int) -> None:
        self.epochs_left = last

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Do nothing: there are few batches."""

    def epoch(self, row: Epoch) -> None:  # noqa: ARG002
        """Kill before this epoch is saved."""
        self.epochs_left -= 1
        if not self.epochs_left:
            raise _KilledError


class _Counts:
    """Counts what it is asked to keep, and keeps nothing."""

    def __init__(self) -> None:
        self.n = 0

    def last(self, key: str, task: PruningTask) -> None:
        """Return nothing: nothing is kept."""

    def keep(self, key: str, removals: Removals) -> None:  # noqa: ARG002
        """Count."""
        self.n += 1


class _Updates:
    """Counts the updates of the fine-tuning it passes on."""

    def __init__(self, train: Callable[[nn.Module, int], None] | None) -> None:
        assert train is not None, "make_task hands it in"
        self.train = train
        self.n = 0

    def __call__(self, model: nn.Module, n_updates: int) -> None:
        self.n += n_updates
        self.train(model, n_updates)


class _KilledFolder(RemovalFolder):
    """Ends after the first step that it keeps, as a killed process would."""

    def keep(self, key: str, removals: Removals) -> None:
        super().keep(key, removals)
        raise _KilledError


def killed_between_removals_goes_on(done: MethodRun) -> None:
    """Check that a method that keeps its steps, killed after the first one and run again, gives the same network."""
    if not done.steps_kept:
        return
    with TemporaryDirectory() as folder:
        with suppress(_KilledError):
            create(done.method, **done.settings).prune(replace(done.task, keeper=_KilledFolder(Path(folder))))
        again = create(done.method, **done.settings).prune(replace(done.task, keeper=RemovalFolder(Path(folder))))
    assert again.plan == done.pruned.plan
    assert again.history == done.pruned.history
    first, second = done.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


PROMISES = (
    training_is_told,
    model_is_unchanged,
    kept_units_are_legal,
    excluded_groups_are_whole,
    target_is_met,
    counts_are_measured,
    compact_network_was_verified,
    compact_network_is_the_users_own,
    plan_survives_json,
    same_seed_gives_the_same_network,
    killed_training_goes_on,
    killed_between_removals_goes_on,
)
"""Each takes a `MethodRun`."""
