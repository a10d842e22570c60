"""What every pruning method promises, as functions that anyone's method can be held to.

`run` prunes one small network; each function of `PROMISES` takes that `Trial` and raises `AssertionError` when a
promise does not hold. `CLASS_PROMISES` hold before anything is pruned. A network without the layers that a method
`needs_layers` of is skipped (`unittest.SkipTest`), if the method's refusal says so.

Examples
--------
In the test suite of a package that registers a method under the entry point group ``prune_deploy.methods``::

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    @pytest.mark.parametrize("network", NETWORKS)
    def test_promise(network, promise):
        promise(run("mine", network))
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from pruners.decide.choices import choices_of
from pruners.decide.goal import budget_of
from pruners.errors import MethodError, NothingToPruneError, SelectorError, TargetError
from pruners.gates.gate import Gate
from pruners.graph import Graph, trace
from pruners.plan import PruningPlan
from pruners.recover.fit import Epoch, History, TrainProgress, fit
from pruners.recover.settings import TrainSettings
from pruners.registry import create, method_class
from pruners.removals import RemovalFolder
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.task import Pruned, PruningTask, Removals

__all__ = ["CLASS_PROMISES", "NETWORKS", "PROMISES", "Trial", "make_network", "make_task", "run"]

_CLASSES = 5
_SIDE = 8


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 12, 3, padding=1)
        self.hidden = nn.Linear(12 * 16, 16)
        self.fc = nn.Linear(16, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = torch.flatten(F.relu(self.conv(x)), 1)
        logits: Tensor = self.fc(F.relu(self.hidden(x)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.Sequential(_Block(12), _Block(12))
        self.fc = nn.Linear(12, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.expand(F.relu(self.stem(x)))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pointwise = nn.Conv2d(8, 16, 1)
        self.depthwise2 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depthwise(F.relu6(self.stem(x)))))
        x = F.relu6(self.depthwise2(F.relu6(self.pointwise(x))))
        logits: Tensor = self.fc(F.hardswish(self.head(x)).mean((2, 3)))
        return logits


class _Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(8, 10, 3, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.mix = nn.Conv2d(24, 12, 1)
        self.fc = nn.Linear(12, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.norm(torch.cat([x, F.relu(self.left(x)), F.silu(self.right(x))], 1))
        logits: Tensor = self.fc(F.relu(self.mix(x)).mean((2, 3)))
        return logits


NETWORKS: Mapping[str, type[nn.Module]] = {
    "plain": _Plain,
    "residual": _Residual,
    "depthwise": _Depthwise,
    "concat": _Concat,
}
"""Small networks, each with another way of coupling channels; inputs of shape (batch, 3, 8, 8), 5 classes."""


def make_network(name: str) -> nn.Module:
    """Build one of `NETWORKS`, with the same weights each time, in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]()


def make_task(model: nn.Module, **changes: Any) -> PruningTask:
    """Make a task on random data that any method can work with: 60 % of the FLOPs, the stem excluded, even counts."""
    task = PruningTask(
        model=model,
        example_inputs=(torch.zeros(2, 3, _SIDE, _SIDE),),
        target=Target(of="flops", kept_fraction=0.6),
        constraints=Constraints(exclude=("stem",), multiple_of=2, min_units=2),
        batches=_batches,
        loss=F.cross_entropy,
        train=_train,
        fit=_Fit(),
    )
    return replace(task, **changes)


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        images = torch.randn(8, 3, _SIDE, _SIDE, generator=generator)
        yield images, torch.randint(0, _CLASSES, (8,), generator=generator)


def _train(model: nn.Module, n_updates: int) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for (images, labels), _ in zip(_batches(), range(n_updates), strict=False):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class _KilledError(Exception):
    pass


class _Killer:
    """Ends the training of epoch `last`, counted over all trainings, as a killed process would."""

    def __init__(self, last: int) -> None:
        self.epochs_left = last

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Let it go on: batches are few."""

    def epoch(self, row: Epoch) -> None:  # noqa: ARG002
        """Kill before this epoch is saved."""
        self.epochs_left -= 1
        if not self.epochs_left:
            raise _KilledError


class _Counts:
    """Counts what it is to keep, and keeps nothing."""

    def __init__(self) -> None:
        self.n = 0

    def last(self, key: str, task: PruningTask) -> None:
        """There is nothing."""

    def keep(self, key: str, removals: Removals) -> None:  # noqa: ARG002
        """Count."""
        self.n += 1


class _Fit:
    """Trains on the task's random data; keeps checkpoints where it has a folder."""

    def __init__(self, folder: Path | None = None, progress: TrainProgress | None = None) -> None:
        self.folder = folder
        self.progress = progress
        self.epochs = 0

    def __call__(self, model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> History:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(24, 3, _SIDE, _SIDE, generator=generator)
        data = TensorDataset(images, torch.randint(0, _CLASSES, (24,), generator=generator))
        checkpoints = None if self.folder is None else self.folder / name
        history = fit(model, data, data, settings, gate=gate, checkpoints=checkpoints, progress=self.progress)
        self.epochs += len(history.epochs)
        return history


@dataclass(frozen=True, eq=False)
class Trial:
    """One method, run once on one network.

    Parameters
    ----------
    method : str
        Registered name.
    settings : Mapping
        Of the method.
    task : PruningTask
        What it was asked.
    before : Mapping of str to Tensor
        The model's state before it was pruned.
    pruned : Pruned
        What it gave back.
    graph : Graph
        Trace of the task's model.
    epochs : int
        For which it trained, all trainings together.
    steps_kept : int
        How often it had the task's keeper keep what it has done.
    """

    method: str
    settings: Mapping[str, Any]
    task: PruningTask
    before: Mapping[str, Tensor] = field(repr=False)
    pruned: Pruned
    graph: Graph = field(repr=False)
    epochs: int
    steps_kept: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Kept units of each group that lost some."""
        return {name: len(kept) for name, kept in self.pruned.plan.kept.items()}


def run(method: str, network: str, **settings: Any) -> Trial:
    """Prune `network` by `method`, once for equal arguments."""
    return _run(method, network, tuple(sorted(settings.items())))


@cache
def _run(method: str, network: str, settings: tuple[tuple[str, Any], ...]) -> Trial:
    model = make_network(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = _Fit()
    task = make_task(model, fit=training)
    counts = _Counts()
    pruned = _prune(method, dict(settings), replace(task, keeper=counts))
    graph = trace(model, task.example_inputs)
    return Trial(method, dict(settings), task, before, pruned, graph, training.epochs, counts.n)


def _prune(method: str, settings: Mapping[str, Any], task: PruningTask) -> Pruned:
    """Prune, or skip where the method refuses a network that lacks the layers it needs."""
    made = create(method, **settings)
    try:
        return made.prune(task)
    except MethodError as error:
        if made.needs_layers and made.needs_layers in str(error):
            raise SkipTest(str(error)) from error
        raise


def model_is_unchanged(trial: Trial) -> None:
    """Check that weights, statistics, gradients and modes of the task's model are what they were."""
    now = trial.task.model.state_dict()
    assert now.keys() == trial.before.keys()
    assert all(torch.equal(now[name], tensor) for name, tensor in trial.before.items())
    assert all(parameter.grad is None for parameter in trial.task.model.parameters())
    assert all(module.training for module in trial.task.model.modules())


def kept_units_are_legal(trial: Trial) -> None:
    """Check that every listed group is prunable, and keeps a count that the constraints allow."""
    legal = choices_of(trial.graph.groups, trial.task.constraints).legal
    assert trial.pruned.plan.removes
    for name, kept in trial.pruned.plan.kept.items():
        assert len(kept) in legal[name], f"{name} keeps {len(kept)} of {legal[name]}"
        assert sorted(set(kept)) == list(kept)
        assert set(kept) <= set(range(trial.graph.group(name).n_units))


def excluded_groups_are_whole(trial: Trial) -> None:
    """Check that the layer that the task excludes has all its channels."""
    assert "stem" not in trial.counts
    assert trial.pruned.model.get_parameter("stem.weight").shape[0] == 8


def target_is_met(trial: Trial) -> None:
    """Check that the cost lands at or below the target, and by less than what one step of one group costs."""
    legal = choices_of(trial.graph.groups, trial.task.constraints)
    budget = budget_of(trial.task.target, trial.graph, trial.pruned.plan.blocks)
    counts = trial.counts
    slack = budget.limit - budget.cost(counts)
    steps = [
        budget.cost({**counts, name: larger}) - budget.cost(counts)
        for name, count in counts.items()
        if (larger := legal.above(name, count)) is not None
    ]
    assert 0 <= slack < max(steps), f"{slack} below the target, where one step is {sorted(steps)}"


def counts_are_measured(trial: Trial) -> None:
    """Check that mACs and parameters that are reported are those of the compact network, and what the plan foretold."""
    pruned = trial.pruned
    compact = trace(pruned.model, trial.task.example_inputs)
    blocks = pruned.plan.blocks
    assert pruned.macs_after == compact.macs() == trial.graph.macs(trial.counts, blocks)
    assert pruned.params_after == sum(parameter.numel() for parameter in pruned.model.parameters())
    assert pruned.params_after == trial.graph.parameters(trial.counts, blocks)
    assert (pruned.macs_before, pruned.params_before) == (trial.graph.macs(), trial.graph.parameters())
    assert pruned.macs_after < pruned.macs_before


def compact_network_was_verified(trial: Trial) -> None:
    """Check that masked and compact network were compared, on channels that were really removed."""
    verification = trial.pruned.verification
    assert verification["removed_channels"] > 0 or trial.pruned.plan.blocks
    assert verification["relative_error"] <= verification["tolerance"]


def compact_network_is_the_users_own(trial: Trial) -> None:
    """Check that it has the original's class and modes, shares no weight with it, and runs at other batch sizes."""
    dense, compact = trial.task.model, trial.pruned.model
    assert type(compact) is type(dense)
    modes = {name: module.training for name, module in dense.named_modules()}
    gone = modes.keys() - {name for name, _ in compact.named_modules()}
    assert all(modes[name] == module.training for name, module in compact.named_modules())
    assert all(any(name.startswith(f"{block}.") for block in trial.pruned.plan.blocks) for name in gone)
    own = {parameter.data_ptr() for parameter in dense.parameters()}
    assert not any(parameter.data_ptr() in own for parameter in compact.parameters())
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in compact.parameters())
    assert copy.deepcopy(compact)(torch.zeros(3, 3, _SIDE, _SIDE)).shape == (3, _CLASSES)


def plan_survives_json(trial: Trial) -> None:
    """Check that the plan, written and read, cuts the original into a network of the same shapes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        trial.pruned.plan.save(path)
        plan = PruningPlan.load(path)
    assert plan == trial.pruned.plan
    assert plan.method == trial.method
    again = apply(trial.task.model, plan)
    assert {n: t.shape for n, t in again.state_dict().items()} == {
        n: t.shape for n, t in trial.pruned.model.state_dict().items()
    }


def same_seed_gives_the_same_network(trial: Trial) -> None:
    """Check that plan and weights come out alike a second time, whatever torch's generator was seeded with."""
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        again = create(trial.method, **trial.settings).prune(trial.task)
    assert again.plan == trial.pruned.plan
    first, second = trial.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def killed_training_goes_on(trial: Trial) -> None:
    """Check that a method that trains by the epoch, killed in its third one and run again, ends in the same network."""
    if not trial.epochs:
        return
    with TemporaryDirectory() as folder:
        interrupted = _Fit(Path(folder), _Killer(min(3, trial.epochs)))
        try:
            create(trial.method, **trial.settings).prune(replace(trial.task, fit=interrupted))
        except _KilledError:
            again = create(trial.method, **trial.settings).prune(replace(trial.task, fit=_Fit(Path(folder))))
        else:
            raise AssertionError("it trained less than the first time")
    assert again.plan == trial.pruned.plan
    first, second = trial.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


class _KilledFolder(RemovalFolder):
    """Ends behind the first step that it keeps, as a killed process would."""

    def keep(self, key: str, removals: Removals) -> None:
        super().keep(key, removals)
        raise _KilledError


def killed_between_removals_goes_on(trial: Trial) -> None:
    """Check that a method that keeps its steps, killed after the first one and run again, ends in the same network."""
    if not trial.steps_kept:
        return
    with TemporaryDirectory() as folder:
        with suppress(_KilledError):
            create(trial.method, **trial.settings).prune(replace(trial.task, keeper=_KilledFolder(Path(folder))))
        again = create(trial.method, **trial.settings).prune(replace(trial.task, keeper=RemovalFolder(Path(folder))))
    assert again.plan == trial.pruned.plan
    assert again.history == trial.pruned.history
    first, second = trial.pruned.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


PROMISES = (
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
"""Each takes a `Trial`."""


def class_is_described(method: str) -> None:
    """Check that the class says its name, its paper and whether it needs data, and has a docstring."""
    found = method_class(method)
    assert found.name == method
    assert found.paper
    assert found.__doc__
    assert isinstance(found.needs_data, bool)
    assert all(item.description for item in found.Settings.model_fields.values())


def unknown_setting_is_refused(method: str) -> None:
    """Check that a misspelt setting is an error of one line that names the method and the setting."""
    _refuses(MethodError, method, "no_such_setting", settings={"no_such_setting": 1})


def missing_data_is_said(method: str) -> None:
    """Check that a method that needs data says so before it does anything; one that does not works without."""
    task = make_task(make_network("plain"), batches=None, loss=None, train=None)
    if method_class(method).needs_data:
        _refuses(MethodError, method, "batches", task=task)
    else:
        assert create(method).prune(task).plan.removed_units


def unreachable_target_is_refused(method: str) -> None:
    """Check that a target below the floors is an error that says how far one can get."""
    task = make_task(make_network("plain"), target=Target(of="params", kept_fraction=1e-4))
    _refuses(TargetError, method, "is left", task=task)


def unknown_layers_are_refused(method: str) -> None:
    """Check that a pattern that matches no layer is an error, for exclusions and for ratios."""
    model = make_network("plain")
    _refuses(SelectorError, method, "'stm'", task=make_task(model, constraints=Constraints(exclude=("stm",))))
    _refuses(SelectorError, method, "'cnv'", task=make_task(model, target=Target(of="ratios", ratios={"cnv": 0.5})))


def nothing_to_prune_is_said(method: str) -> None:
    """Check that excluding every layer, or ratios that round to nothing, is an error."""
    model = make_network("plain")
    _refuses(NothingToPruneError, method, "excluded", task=make_task(model, constraints=Constraints(exclude=("*",))))
    _refuses(NothingToPruneError, method, "", task=make_task(model, target=Target(of="ratios", ratios={"conv": 0.0})))


def ratios_are_followed(method: str) -> None:
    """Check that with ratios each named group keeps ``floor(n_units * (1 - ratio))`` units and the others all."""
    target = Target(of="ratios", ratios={"conv": 0.3, "hidden": 0.5})
    task = make_task(make_network("plain"), target=target, constraints=Constraints())
    kept = _prune(method, {}, task).plan.kept
    assert {name: len(units) for name, units in kept.items()} == {"conv": 8, "hidden": 8}


CLASS_PROMISES = (
    class_is_described,
    unknown_setting_is_refused,
    missing_data_is_said,
    unreachable_target_is_refused,
    unknown_layers_are_refused,
    nothing_to_prune_is_said,
    ratios_are_followed,
)
"""Each takes the registered name of a method and uses its default settings."""


def _refuses(
    expected: type[Exception],
    method: str,
    fragment: str,
    *,
    task: PruningTask | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    try:
        made = create(method, **(settings or {}))
        if task is not None:
            made.prune(task)
    except expected as error:
        assert fragment in str(error), f"the message does not say {fragment!r}: {error}"
        assert "\n" not in str(error)
        return
    raise AssertionError(f"method {method!r} does not raise {expected.__name__}")
