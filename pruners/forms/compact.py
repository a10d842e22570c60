"""Save and load a compact network: weights as safetensors; original code and plan rebuild the rest. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pruners.errors import PlanError, SurgeryError
from pruners.files import replacing, require_regular
from pruners.forms.forms import Form
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import Graph
from pruners.modules.copies import copy_of
from pruners.modules.kept_state import KeptState, restore_kept
from pruners.modules.plain import plain
from pruners.plan import PruningPlan
from pruners.surgery import apply

__all__ = ["load", "save_weights"]

_KEPT = "__kept__"


def save_weights(module: nn.Module, path: Path) -> None:
    """Write parameters and persistent buffers as safetensors, complete or not at all.

    A tensor with several names (tied weights) is written once, under its first one. A network in graph form is saved
    with what the original had kept from earlier calls: this decides what the graph computes and what is a constant.

    Raises
    ------
    SurgeryError
        The state holds something that is not a tensor.
    """
    from safetensors.torch import save_file

    module = plain(module)
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in _first_names(module).items()}
    metadata = {"format": "pt"}
    if isinstance(module, GraphNetwork) and module.kept is not None:
        metadata[_KEPT] = module.kept.record
        weights.update({f"{_KEPT}.{place}": tensor.cpu() for place, tensor in enumerate(module.kept.tensors)})
    with replacing(path) as part:
        save_file(weights, part, metadata=metadata)


def load(
    dense: nn.Module, plan: PruningPlan, weights: Path, *, graph: Graph | None = None, form: Form = "auto"
) -> nn.Module:
    """Rebuild a compact network.

    Parameters
    ----------
    dense : Module
        The original network, made by its own code; its weights do not matter. Not modified.
    plan : PruningPlan
        As applied to that network; one that removes nothing keeps its shapes (single weights set to zero).
    weights : Path
        File that `save_weights` wrote for the compact network.
    graph : Graph, optional
        Graph of `dense`; traced again from the plan's inputs if not given.
    form : {"auto", "module", "graph"}
        Form in which the plan was applied; see `pruners.surgery.apply`.

    Returns
    -------
    Module
        The compact network, in the mode of `dense` and on its device.

    Raises
    ------
    PlanError
        The plan was made for another network, or the file is missing, truncated, not safetensors, or has other
        tensors than the compact network.
    SurgeryError
        The network cannot be resized.
    """
    stored, kept = _read(weights)
    dense = plain(dense)
    if kept is not None:
        dense = copy_of(dense)
        graph = None if restore_kept(dense, kept) else graph
    module = apply(dense, plan, graph=graph, check=False, form=form) if plan.removes else copy_of(dense)
    own = _first_names(module)
    missing, unknown = sorted(own.keys() - stored.keys()), sorted(stored.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"holds {unknown[0]!r}, which the network does not have"
        raise PlanError(f"{weights} {what}; it was saved from another network ({len(missing) + len(unknown)} names)")
    for name, tensor in own.items():
        if stored[name].shape != tensor.shape or stored[name].dtype != tensor.dtype:
            raise PlanError(
                f"{weights}: {name!r} is {_form(stored[name])}, the plan makes it {_form(tensor)}; "
                "weights and plan are of different prunings"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])
    return module


def _read(weights: Path) -> tuple[dict[str, Tensor], KeptState | None]:
    from safetensors import SafetensorError, safe_open

    try:
        require_regular(weights)
        with safe_open(weights, framework="pt") as file:
            stored: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            record = (file.metadata() or {}).get(_KEPT)
        if record is None:
            return stored, None
        names = sorted(
            (name for name in stored if name.startswith(f"{_KEPT}.")), key=lambda name: int(name[len(_KEPT) + 1 :])
        )
        return stored, KeptState(record, tuple(stored.pop(name) for name in names))
    except FileNotFoundError as error:
        raise PlanError(f"{weights}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise PlanError(f"{weights} is not a complete safetensors file: {error}") from error


def _first_names(module: nn.Module) -> Mapping[str, Tensor]:
    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise SurgeryError(f"the state of {type(module).__name__} holds {name!r}, which is not a tensor")
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}"
