"""`Gate`: a trainable number for each unit of a network, for use in any training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pruners.errors import MethodError

if TYPE_CHECKING:
    from pruners.importance.scores import Scores

__all__ = ["GATE", "Gate"]

GATE = "prune_deploy_gate"
"""Name of the gate among the network's modules while it is attached."""


class Gate(nn.Module, ABC):
    """Numbers trained with a network that tell how important each of its units is.

    A subclass attaches itself to the network when it is created (parametrizations, hooks), and becomes one of its
    modules, so that the network's ``state_dict`` holds all of its state and data parallelism covers its parameters.
    State other than parameters is kept in buffers, so that training resumed from a ``state_dict`` continues bit for
    bit.

    Parameters
    ----------
    network : Module
        Modified in place; pass a copy to keep the original.

    Raises
    ------
    MethodError
        The network has a gate already.

    Examples
    --------
    In your own training loop::

        gate = SomeGate(network, graph)
        optimizer = SGD(gate.parameter_groups(network, weight_decay=1e-4), lr=lr)
        for images, labels in batches:
            loss = cross_entropy(network(images), labels)
            optimizer.zero_grad()
            gate.with_penalty(loss).backward()
            gate.before_step(lr)
            optimizer.step()
            gate.after_step(lr)
            if gate.finished:
                break
        scores = gate.scores()
        gate.fold()
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if hasattr(network, GATE):
            present = type(getattr(network, GATE)).__name__
            raise MethodError(f"the network has a gate already ({present}); fold it first")
        network.add_module(GATE, self)

    def forward(self, *inputs: Any) -> Any:
        """Return the input: an `nn.Sequential` calls its gate like any of its modules."""
        return inputs[0] if len(inputs) == 1 else inputs

    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: the network's with weight decay, the gate's without.

        Parameters that the gate updates itself (`updated_here`) are in neither.
        """
        own = {id(parameter) for parameter in self.parameters()}
        mine = {id(parameter) for parameter in self.updated_here()}
        trained = [p for p in network.parameters() if p.requires_grad and id(p) not in mine]
        groups = [
            {"params": [p for p in trained if id(p) not in own], "weight_decay": weight_decay},
            {"params": [p for p in trained if id(p) in own], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def expect(self, updates: int) -> None:
        """Receive the maximum number of updates; called before the first one, and again on resume."""

    def updated_here(self) -> list[nn.Parameter]:
        """List the parameters that `after_step` updates from their gradients, instead of the optimizer.

        It then sets these gradients to None, as the optimizer does not know the parameters and would not clear them.
        """
        return []

    def penalty(self) -> Tensor | None:
        """Return the term to add to the loss of the batch that just ran, or None."""
        return None

    def with_penalty(self, loss: Tensor) -> Tensor:
        """Add `penalty` to `loss`."""
        penalty = self.penalty()
        return loss if penalty is None else loss + penalty

    def before_step(self, lr: float) -> None:
        """Modify gradients after the backward pass, before clipping and the optimizer's step at rate `lr`."""

    def after_step(self, lr: float) -> None:
        """Update the parameters that the gate updates itself, after the optimizer's step at rate `lr`."""

    @property
    def finished(self) -> bool:
        """Whether the gate has reached its goal, so that training may stop."""
        return False

    @abstractmethod
    def scores(self) -> Scores:
        """Return one number for each unit of each gated group; the lowest are removed first."""

    @abstractmethod
    def fold(self) -> None:
        """Fold the gate into the network's own tensors and detach it: no hooks or parametrizations remain.

        What the network computes in evaluation mode stays the same, up to rounding, unless the subclass says otherwise.
        """

    def detach_from(self, network: nn.Module) -> None:
        """Remove the gate from the modules of `network`; for `fold`."""
        delattr(network, GATE)
