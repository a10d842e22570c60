"""Transfer the state modules keep from earlier calls (cached anchors, grids, position tables) to another instance.

A trace bakes such tensors in, so a network that has already run yields a different program from a fresh one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pruners.modules.attributes import OF_TORCH

__all__ = ["KeptState", "kept_state", "restore_kept"]

_PLAIN = (bool, int, float, str, type(None))
_CONTAINERS: dict[str, Any] = {"Size": torch.Size, "tuple": tuple, "list": list, "dict": dict}


@dataclass(frozen=True, eq=False)
class KeptState:
    """The attributes of a network's modules other than parameters, modules, and buffers in its ``state_dict``.

    Parameters
    ----------
    record : str
        JSON: for each path the names of the attributes and, for modules that keep tensors, their values.
    tensors : tuple of Tensor
        Tensors the values refer to.
    """

    record: str
    tensors: tuple[Tensor, ...]


def kept_state(model: nn.Module) -> KeptState:
    """Record the state that the modules of a network keep."""
    tensors: list[Tensor] = []
    record = {}
    for path, layer in model.named_modules():
        own = {name: value for name, value in vars(layer).items() if name not in OF_TORCH} | _unsaved_buffers(layer)
        before = len(tensors)
        values = {name: coded for name, value in own.items() if (coded := _coded(value, tensors)) is not None}
        record[path] = {"names": sorted(own), "values": values if len(tensors) > before else {}}
    return KeptState(json.dumps(record), tuple(tensors))


def restore_kept(model: nn.Module, kept: KeptState) -> bool:
    """Put an instance into a recorded state, in place.

    Attributes not in the record are deleted. Nonzero numbers of the instance stay: they may be sizes.

    Returns
    -------
    bool
        Whether anything changed.
    """
    record: Mapping[str, Any] = json.loads(kept.record)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    changed = False
    for path, layer in model.named_modules():
        if path not in record:
            continue
        own = vars(layer)
        for name in own.keys() - OF_TORCH - set(record[path]["names"]):
            del own[name]
            changed = True
        buffers = _unsaved_buffers(layer)
        for name, coded in record[path]["values"].items():
            holder: dict[str, Any] = layer._buffers if name in buffers else own
            present, value = holder.get(name), _decoded(coded, kept.tensors, device)
            if not (isinstance(present, (int, float)) and present) and not _same(present, value):
                holder[name] = value
                changed = True
    return changed


def _unsaved_buffers(layer: nn.Module) -> dict[str, Tensor | None]:
    """Return the buffers outside the ``state_dict``: lazily created state is often one of them."""
    return {name: layer._buffers[name] for name in layer._non_persistent_buffers_set}


def _coded(value: Any, tensors: list[Tensor]) -> list[Any] | None:
    """Return ``[kind, content]``, or None for values that cannot be encoded; tensors are appended to the list."""
    if isinstance(value, Tensor):
        tensors.append(value.detach().clone())
        return ["tensor", len(tensors) - 1]
    if isinstance(value, _PLAIN):
        return ["value", value]
    if isinstance(value, torch.device):
        return ["device", None]
    if isinstance(value, torch.dtype):
        return ["dtype", str(value).removeprefix("torch.")]
    if type(value) not in _CONTAINERS.values():
        return None
    items = [_coded(item, tensors) for item in (value.items() if isinstance(value, dict) else value)]
    return None if None in items else [type(value).__name__, items]


def _decoded(coded: list[Any], tensors: tuple[Tensor, ...], device: torch.device) -> Any:
    kind, content = coded
    if kind == "tensor":
        return tensors[content].to(device)
    if kind == "value":
        return content
    if kind == "device":
        return device
    if kind == "dtype":
        return getattr(torch, content)
    return _CONTAINERS[kind](_decoded(item, tensors, device) for item in content)


def _same(present: Any, value: Any) -> bool:
    if isinstance(present, Tensor) or isinstance(value, Tensor):
        return isinstance(present, Tensor) and isinstance(value, Tensor) and torch.equal(present, value)
    if type(present) is not type(value):
        return False
    if isinstance(value, dict):
        return present.keys() == value.keys() and all(_same(present[key], value[key]) for key in value)
    if isinstance(value, (tuple, list)):
        return len(present) == len(value) and all(map(_same, present, value))
    return bool(present == value)
