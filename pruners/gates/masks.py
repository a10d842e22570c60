"""Zeros that stay zeros while the other weights are trained."""

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
    """Masks on the weights of some layers, and the weights that the network had at one point of its training.

    A masked weight is multiplied by zero wherever the network reads it, so that neither momentum nor weight decay
    brings it back, whatever the optimizer does.

    Parameters
    ----------
    network : Module
        Is changed.
    layers : sequence of str
        Paths of modules with a ``weight``.
    remember_at : int, optional
        Keep a copy of all parameters and buffers after so many updates, 0 for now, for `rewind`.

    Raises
    ------
    MethodError
        A layer has no plain ``weight``, or the network has a gate already.

    Examples
    --------
    Fine-tune what a method left, in a loop of one's own::

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
        """Mask every weight of a convolution or linear layer that is zero now.

        Raises
        ------
        MethodError
            None is.
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
        """Set the masks: True where a weight stays, by layer."""
        for name, module in self._modules_masked().items():
            _mask_of(module).copy_(keep[name])

    def weights(self) -> dict[str, Tensor]:
        """Return the masked weights by layer."""
        return {name: _weight_of(module).detach() for name, module in self._modules_masked().items()}

    def rewind(self) -> None:
        """Restore the remembered values of parameters and buffers; masks stay.

        Raises
        ------
        MethodError
            Nothing was remembered, or the training was shorter than that.
        """
        if self._remember_at is None or int(self.updates) < self._remember_at:
            raise MethodError(
                f"the weights after update {self._remember_at} were asked for, after {int(self.updates)} updates"
            )
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                tensor.copy_(self.get_buffer(self._kept[name]))

    def after_step(self, lr: float) -> None:  # noqa: ARG002
        """Count updates, and remember the network when its update comes."""
        self.updates += 1
        if self._remember_at is not None and int(self.updates) == self._remember_at:
            for name, tensor in self._tensors().items():
                self.get_buffer(self._kept[name]).copy_(tensor.detach())

    def scores(self) -> Scores:
        """Return nothing: masks are of weights, not of units."""
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
        """Return the network's parameters and buffers by the names that they had before they were masked."""
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
