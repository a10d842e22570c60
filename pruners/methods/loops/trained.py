"""Train a network in a method, cut it, and measure what the cut does to the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruners.base import Method
from pruners.modules.modes import evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruners.gates.gate import Gate
    from pruners.graph import Graph
    from pruners.methods.loops.cutting import Removal
    from pruners.plan import PruningPlan
    from pruners.recover.settings import TrainSettings
    from pruners.task import PruningTask

__all__ = ["cut_trained", "first_batch", "loss_on", "train"]

Batch = tuple["Tensor", "Tensor"]


def train(task: PruningTask, model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> None:
    """Train `model` with the task's ``fit``; the order of the examples depends on the task's seed."""
    assert task.fit is not None, "the base class checked it"
    task.fit(model, settings.model_copy(update={"seed": settings.seed + task.seed}), name=name, gate=gate)


def cut_trained(
    method: Method,
    task: PruningTask,
    graph: Graph,
    trained: nn.Module,
    kept: Mapping[str, tuple[int, ...]],
    blocks: tuple[str, ...] = (),
    *,
    before: PruningPlan | None = None,
) -> Removal:
    """Cut a trained network to its `kept` units, and check that masked and compact networks agree.

    They may agree because nothing that is removed has any effect, which is the purpose of scales of zero. The base
    class checks the same cut on the task's own weights.

    Under ``torch.distributed`` every process follows the plan of process 0.

    Parameters
    ----------
    graph : Graph
        Trace of the task's model; its policy is used to trace the trained network.
    trained : Module
        Plain layers, no gate; not modified.
    kept : Mapping of str to tuple of int
        Kept units of each decided group.
    blocks : tuple of str
        Residual blocks that are removed whole.
    before : PruningPlan, optional
        What the trained network has lost already.

    Raises
    ------
    VerificationError
        Masked and compact networks differ.
    """
    from pruners.methods.loops.cutting import cut, retrace

    return cut(method, task, retrace(task, graph, trained, before), trained, kept, blocks, check=True)


def first_batch(task: PruningTask) -> Batch:
    """Return the first of the task's training batches: the same one each time."""
    assert task.batches is not None, "the base class checked it"
    images, labels = next(iter(task.batches()))
    return images, labels


def loss_on(model: nn.Module, batch: Batch, task: PruningTask) -> float:
    """Return the task's loss of a network on one batch, in evaluation mode."""
    import torch

    assert task.loss is not None, "the base class checked it"
    device = next(model.parameters()).device
    images, labels = batch
    with evaluating(model), torch.no_grad():
        return float(task.loss(model(images.to(device)), labels.to(device)))
