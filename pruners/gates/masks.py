"""Weight masks: zeros stay zero while the other weights are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruners.errors import MethodError
from pruners.gates.gate import Gate
from pruners.importance.scores import Scores

__all__ = ["WeightMasks"]


class _Masked(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


class WeightMasks(Gate):
    """Masks on the weights of some layers, and a copy of the network's state to rewind to.

    A masked weight is multiplied by zero wherever the network reads it, so neither momentum nor weight decay can bring
    it back, whatever the optimizer does.

    Parameters
    ----------
    network : Module
        Modified in place.
    layers : sequence of str
        Paths of modules with a ``weight``.
    remember_at : int, optional
        Number of updates after which all parameters and buffers are copied for `rewind`; 0 copies them now.

    Raises
    ------
    MethodError
        A layer has no plain ``weight``, or the network has a gate already.

    Examples
    --------
    Fine-tune the result of a method, in your own loop::

        masks = WeightMasks.of_zeros(network)
        for images, labels in batches:
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
        masks.fold()
    """

    updates: Tensor

    def __init__(self, network: nn.Module, layers: Sequence[str], *, remember_at: int | None = None) -> None:
        modules = {name: network.get_submodule(name) for name in layers}
        for name, module in modules.items():
            if not isinstance(module._parameters.get("weight"), nn.Parameter):
                raise MethodError(f"layer {name!r} ({type(module).__name__}) has no plain weight that could be masked")
        super().__init__(network)
        object.__setattr__(self, "_network", network)
        object.__setattr__(self, "_masked", modules)
        self._remember_at = remember_at
        self._names = [*dict(network.named_parameters()), *dict(network.named_buffers())]
        for module in modules.values():
            parametrize.register_parametrization(module, "weight", _Masked(torch.ones_like(_weight_of(module))))
        self._kept = {name: f"kept_{number}" for number, name in enumerate(self._names)}
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        if remember_at is not None:
            for name, tensor in self._tensors().items():
                self.register_buffer(self._kept[name], tensor.detach().clone())

    @classmethod
    def of_zeros(cls, network: nn.Module) -> WeightMasks:
        """Mask every weight of a convolution or linear layer that is currently zero.

        Raises
        ------
        MethodError
            No weight is zero.
        """
        weights = {
            name: module.weight
            for name, module in network.named_modules()
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
        }
        keep = {name: weight.detach() != 0 for name, weight in weights.items() if bool((weight == 0).any())}
        if not keep:
            raise MethodError("the network has no weight that is zero; there is nothing to mask")
        masks = cls(network, list(keep))
        masks.keep(keep)
        return masks

    def keep(self, keep: Mapping[str, Tensor]) -> None:
        """Set the masks by layer: True where a weight is kept."""
        for name, module in self._modules_masked().items():
            _mask_of(module).copy_(keep[name])

    def weights(self) -> dict[str, Tensor]:
        """Return the masked weights by layer."""
        return {name: _weight_of(module).detach() for name, module in self._modules_masked().items()}

    def rewind(self) -> None:
        """Restore the copied parameters and buffers; the masks stay.

        Raises
        ------
        MethodError
            No copy was requested, or training has not reached that update.
        """
        if self._remember_at is None or int(self.updates) < self._remember_at:
            raise MethodError(
                f"the weights after update {self._remember_at} were asked for, after {int(self.updates)} updates"
            )
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(self.get_buffer(self._kept[name]))

    def after_step(self, lr: float) -> None:  # noqa: ARG002
        """Count the update, and copy the network's state after update `remember_at`."""
        self.updates += 1
        if self._remember_at is not None and int(self.updates) == self._remember_at:
            for name, tensor in self._tensors().items():
                self.get_buffer(self._kept[name]).copy_(tensor.detach())

    def scores(self) -> Scores:
        """Return nothing: masks apply to weights, not to units."""
        return {}

    def fold(self) -> None:
        """Write the zeros into the weights."""
        for module in self._modules_masked().values():
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        self.detach_from(self.__dict__["_network"])

    def _modules_masked(self) -> Mapping[str, nn.Module]:
        masked: Mapping[str, nn.Module] = self.__dict__["_masked"]
        return masked

    def _tensors(self) -> dict[str, Tensor]:
        """Return the network's parameters and buffers by their names before masking."""
        network: nn.Module = self.__dict__["_network"]
        present = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        masked = {f"{name}.weight" if name else "weight" for name in self._modules_masked()}
        return {
            name: present[f"{name.removesuffix('weight')}parametrizations.weight.original" if name in masked else name]
            for name in self._names
        }


def _weight_of(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _mask_of(module: nn.Module) -> Tensor:
    return module.get_buffer("parametrizations.weight.0.mask")
