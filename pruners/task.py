"""Input (`PruningTask`) and result (`Pruned`) of a pruning method. Imports no torch at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pruners.errors import MethodError
from pruners.target import Constraints, Target

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pruners.gates.gate import Gate
    from pruners.plan import PruningPlan
    from pruners.recover.settings import TrainSettings

__all__ = ["Fit", "Keeper", "Progress", "Pruned", "PruningTask", "Removals", "Stream"]

Progress = Callable[[str, float], None]


class Fit(Protocol):
    """Trains a network as long as its settings say, on the task's training data."""

    def __call__(self, model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> object:
        """Train `model` in place; see `pruners.recover.fit.fit`.

        Parameters
        ----------
        model : Module
            The network to train.
        settings : TrainSettings
            How long and how.
        name : str
            Distinguishes the trainings of one method: a method that is rerun after a kill makes the same calls, and
            finished trainings are not repeated.
        gate : Gate, optional
            Attached to the model.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Removals:
    """State of a method between two removals.

    Parameters
    ----------
    place : int
        Position in the method's schedule.
    plan : PruningPlan
        All removals so far, joined.
    model : Module
        The current network, in one of the forms of `pruners.surgery.apply`.
    history : tuple of Mapping
        JSON rows so far.
    drawn : int
        Batches that the method drew from its stream.
    """

    place: int
    plan: PruningPlan
    model: nn.Module
    history: tuple[Mapping[str, Any], ...]
    drawn: int = 0


class Stream:
    """Iterator over batches that counts them.

    Parameters
    ----------
    batches : iterable
        The same batches in the same order each time it is made. Its ``skip(n)``, if any, is used to skip batches.
    """

    def __init__(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._batches = iter(batches)
        self.drawn = 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        batch = next(self._batches)
        self.drawn += 1
        return batch

    def skip_to(self, drawn: int) -> None:
        """Skip batches until `drawn` of them are drawn.

        Raises
        ------
        MethodError
            More than that are drawn already.
        """
        if drawn < self.drawn:
            raise MethodError(
                f"a stream of batches is at {self.drawn} and should go on at {drawn}: make the task anew to go on"
            )
        skip = getattr(self._batches, "skip", None)
        if skip is not None:
            skip(drawn - self.drawn)
            self.drawn = drawn
        while self.drawn < drawn:
            next(self)


class Keeper(Protocol):
    """Saves the last `Removals` of one pruning."""

    def last(self, key: str, task: PruningTask) -> Removals | None:
        """Return the last removals saved for this key (see `pruners.base.key_of`), or None."""

    def keep(self, key: str, removals: Removals) -> None:
        """Save these removals in place of earlier ones."""


@dataclass(frozen=True, kw_only=True)
class PruningTask:
    """Everything a method may use.

    Parameters
    ----------
    model : Module
        The dense network; it is never modified.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        Arguments of one call, on the model's device: the tensor, all positional arguments, keyword arguments, or
        both. Tensors are of shape (batch, ...); they may be nested in lists, dictionaries and dataclasses, beside
        Python values.
    target : Target
        How small the network is to become.
    constraints : Constraints
        What else the plan must respect.
    seed : int
        Seeds all random draws of the method.
    batches : callable, optional
        ``batches()`` gives a fresh, endless, seeded iterator over training batches ``(inputs, targets)``; targets are
        int64 labels of shape (batch,), or images.
    loss : callable, optional
        ``loss(outputs, targets)`` -> scalar Tensor, averaged over the batch.
    train : callable, optional
        ``train(model, n_updates)``: fine-tune in place between two removals.
    fit : callable, optional
        A `Fit`; for methods that train by the epoch.
    keeper : Keeper, optional
        Where a method that removes in steps saves its progress, and resumes from when rerun; see
        `pruners.removals.RemovalFolder`.
    progress : callable, optional
        ``progress(message, fraction_done)``.
    """

    model: nn.Module
    example_inputs: Any
    target: Target
    constraints: Constraints = field(default_factory=Constraints)
    seed: int = 0
    batches: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]] | None = None
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    train: Callable[[nn.Module, int], None] | None = None
    fit: Fit | None = None
    keeper: Keeper | None = None
    progress: Progress | None = None

    def copy(self) -> nn.Module:
        """Return a copy of the dense network; see `pruners.modules.copies.copy_of`."""
        from pruners.modules.copies import copy_of

        return copy_of(self.model)


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Result of a method.

    Parameters
    ----------
    model : Module
        The compact network, with the weights that the method left: of the user's own class, or in graph form.
    plan : PruningPlan
        Relative to the task's model.
    macs_before, macs_after, params_before, params_after : int
        For one example; counted on the traced graphs.
    verification : Mapping
        JSON form of the masked-equals-compact check that ran.
    history : tuple of Mapping
        One JSON row per step of an iterative method.
    form : {"module", "graph"}
        Whether `model` is of the user's own class, or a `pruners.forms.graph_network.GraphNetwork`.
    form_reason : str
        Why it is not of the user's own class; else empty.
    left_whole : str
        Which groups were left whole so that the network keeps its own class, and why; else empty.
    zeros : int
        Weights set to zero, by a method that removes no channels; `macs_after` and `params_after` still count them.
    unranked : str
        Which groups stayed whole because the method cannot rank their units, and why; else empty.
    landing : str
        Where the plan landed, if that is 1 % of the dense cost or more below the target, and why; else empty.
    """

    model: nn.Module
    plan: PruningPlan
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    verification: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...] = ()
    zeros: int = 0
    unranked: str = ""
    landing: str = ""
    form: Literal["module", "graph"] = "module"
    form_reason: str = ""
    left_whole: str = ""

    def __repr__(self) -> str:
        return (
            f"Pruned({type(self.model).__name__}, {self.plan.method}, MACs {self.macs_before} -> {self.macs_after}, "
            f"parameters {self.params_before} -> {self.params_after}, {self.plan.removed_units} units and "
            f"{len(self.plan.blocks)} blocks removed, checked against {self.verification['reference']})"
        )
