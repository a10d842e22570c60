"""Make a compact copy of the user's own module: cut its tensors, and update the attributes that repeat their sizes.

Class, code, hooks, parameter names, shared tensors, `requires_grad`, dtype, device, memory format and train/eval mode
are kept; gradients are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pruners.errors import FOREIGN, PruneError, SurgeryError, first_line
from pruners.forms.module_search import Disagreement, Misfit, fit_
from pruners.forms.module_sizes import LayerSizesError, Resized, update_sizes
from pruners.forms.slicing import Positions, slice_without, tensor_named
from pruners.modules.attributes import SizeChange
from pruners.modules.copies import copy_of

__all__ = ["RemovedBlock", "SizeChange", "module_form", "remove_blocks_", "resize_"]


class RemovedBlock(nn.Identity):
    """Takes the place of a removed residual block: returns its first input and ignores other arguments."""

    def forward(self, input: Tensor, *_: Any, **__: Any) -> Tensor:  # noqa: A002 - nn.Identity calls it so
        """Return the first input."""
        return input


def module_form(
    model: nn.Module,
    gone: Mapping[str, Positions],
    changes: Sequence[SizeChange],
    disagreement: Disagreement,
    *,
    removed_blocks: Sequence[str] = (),
) -> nn.Module | Misfit:
    """Make the user's own module smaller.

    Parameters
    ----------
    model : Module
        The whole network; not modified.
    gone : Mapping of str to Mapping of int to sequence of int
        Name of a parameter or buffer -> axis -> positions to remove.
    changes : sequence of SizeChange
        Sizes in the modules' code that change too, as found in the exported graph.
    disagreement : callable
        Judges a candidate: an empty string if it does what the compact graph does. Must not modify it.
    removed_blocks : sequence of str, optional
        Paths of residual blocks that become identities; see `remove_blocks_`.

    Returns
    -------
    Module or Misfit
        The compact module, or why there is none.
    """
    try:
        cut = [tensor_named(model, path) for path in gone]  # replaced at once: no need for copies
        twin = copy_of(model, instead={id(tensor): tensor for tensor in cut})
        settled = resize_(twin, gone, removed_blocks)
    except LayerSizesError as error:
        return Misfit(str(error), error.layer, ran=False)
    except (*FOREIGN, PruneError) as error:
        return Misfit(str(error) if isinstance(error, PruneError) else first_line(error))
    return fit_(twin, changes, settled, disagreement) or twin


def resize_(module: nn.Module, gone: Mapping[str, Positions], removed_blocks: Sequence[str] = ()) -> frozenset[str]:
    """Remove the given positions from named tensors, in place, wherever a tensor is used.

    Parameters
    ----------
    gone : Mapping of str to Mapping of int to sequence of int
        Name of a parameter or buffer -> axis -> positions.
    removed_blocks : sequence of str, optional
        As in `module_form`.

    Returns
    -------
    frozenset of str
        Paths of the modules whose attributes are now known to be right.

    Raises
    ------
    PlanError
        There is no such tensor.
    SurgeryError
        A layer's own code does not allow these sizes.
    """
    sizes = _cut_(module, gone)
    remove_blocks_(module, removed_blocks)
    return _update_(module, sizes)


def remove_blocks_(module: nn.Module, names: Sequence[str]) -> None:
    """Replace residual blocks by identities, in place.

    Parameters
    ----------
    names : sequence of str
        Paths of modules whose whole call is ``x + f(x)``.

    Raises
    ------
    SurgeryError
        There is no such module.
    """
    for name in names:
        parent, _, attribute = name.rpartition(".")
        try:
            owner = module.get_submodule(parent)
            block = owner._modules[attribute]
        except (AttributeError, KeyError) as error:
            raise SurgeryError(f"the network has no module {name!r} that could be removed") from error
        if block is not None:
            owner._modules[attribute] = RemovedBlock().train(block.training)


def _cut_(module: nn.Module, gone: Mapping[str, Positions]) -> dict[int, Resized]:
    """Replace the tensors; return how each new one, by its id, was resized."""
    smaller: dict[int, Tensor] = {}
    sizes: dict[int, Resized] = {}
    before = []  # kept alive, so that their ids are not reused
    for path, axes in gone.items():
        old = tensor_named(module, path)
        new = slice_without(old, axes)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        smaller[id(old)] = new
        sizes[id(new)] = Resized(tuple(old.shape), tuple(new.shape), axes)
        before.append(old)
    for layer in module.modules():
        holders: tuple[dict[str, Any], ...] = (layer._parameters, layer._buffers)
        for tensors in holders:
            tensors.update({name: smaller[id(tensor)] for name, tensor in tensors.items() if id(tensor) in smaller})
    return sizes


def _update_(module: nn.Module, sizes: Mapping[int, Resized]) -> frozenset[str]:
    """Update the attributes of the layers; return the paths of those that are now known to be right."""
    settled = set()
    for name, layer in module.named_modules():
        tensors = dict(_read_tensors(layer, sizes))
        if any(tensor.gone for tensor in tensors.values()) and update_sizes(name, layer, tensors):
            settled.add(name)
    return frozenset(settled)


def _read_tensors(layer: nn.Module, sizes: Mapping[int, Resized]) -> Iterator[tuple[str, Resized]]:
    def resized(tensor: Tensor) -> Resized:
        return sizes.get(id(tensor)) or Resized(tuple(tensor.shape), tuple(tensor.shape))

    for attribute, tensor in (*layer._parameters.items(), *layer._buffers.items()):
        if tensor is not None:
            yield attribute, resized(tensor)
    if parametrize.is_parametrized(layer):
        chains: Any = layer.parametrizations
        for attribute, chain in chains.items():
            if hasattr(chain, "original"):
                yield attribute, resized(chain.original)
            elif isinstance(chain[0], _WeightNorm):
                yield attribute, resized(chain.original1)
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield hook.name, resized(getattr(layer, f"{hook.name}_v"))
            with torch.no_grad():
                setattr(layer, hook.name, hook.compute_weight(layer))
        elif isinstance(hook, SpectralNorm):
            yield hook.name, resized(getattr(layer, f"{hook.name}_orig"))
            with torch.no_grad():
                setattr(layer, hook.name, hook.compute_weight(layer, do_power_iteration=False))
