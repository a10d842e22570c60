"""Try a new network on one image: it must accept the data and return one tensor of the shape the data needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.factory import explain
from deploy.sources.network_spec import NetworkSpec
from pruners.channels.outputs import path_name
from pruners.modules.calls import know_dataclasses
from pruners.modules.modes import evaluating

__all__ = ["try_forward"]

_USUAL = "logits"


class _Pick:
    """A forward hook that picks one of several outputs by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, _network: nn.Module, _inputs: Any, outputs: Any) -> Any:
        return outputs if isinstance(outputs, Tensor) else _tensors(outputs)[self.name]


def try_forward(
    network: nn.Module,
    spec: NetworkSpec,
    n_classes: int | None,
    input_shape: tuple[int, int, int],
    target_shape: tuple[int, int, int] | None,
) -> None:
    """Run a network on one image, and make it return the output that the data needs, in place.

    Raises
    ------
    SourceError
        It fails, or returns something else.
    """
    image = "x".join(map(str, input_shape))
    parameter = next(network.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    try:
        with evaluating(network), torch.no_grad():
            output = network(torch.zeros(1, *input_shape, device=device))
    except Exception as error:
        path = spec.name.rpartition(":")[0]
        reason = explain(error, Path(path)) if path.endswith(".py") else cause(error)
        raise SourceError(f"network {spec.name} cannot take images of {image}: {reason}") from error
    wanted = "class scores" if target_shape is None else "an image"
    if not isinstance(output, Tensor):
        outputs = _tensors(output)
        name = _USUAL if spec.output is None else spec.output
        if not outputs:
            raise SourceError(f"network {spec.name} gives {type(output).__name__}, not a tensor of {wanted}")
        if name not in outputs:
            raise SourceError(
                f"network {spec.name} gives {type(output).__name__} of {', '.join(outputs)}: name the one that holds "
                f"{wanted} in a recipe, such as network: {{output: {next(iter(outputs))}}}, or return it alone"
            )
        network.register_forward_hook(_Pick(name))
        output = outputs[name]
    elif spec.output is not None:
        raise SourceError(f"network {spec.name} gives one tensor: leave output: {spec.output!r} out")
    if n_classes is not None and output.shape != (1, n_classes):
        raise SourceError(
            f"network {spec.name} gives scores of shape {tuple(output.shape)} for one image of {image}; "
            f"the data's {n_classes} classes want (1, {n_classes})"
        )
    if target_shape is not None and output.shape != (1, *target_shape):
        raise SourceError(
            f"network {spec.name} gives {tuple(output.shape)} for one image of {image}; the data's images to restore "
            f"want {(1, *target_shape)}"
        )


def _tensors(outputs: Any) -> dict[str, Tensor]:
    know_dataclasses(outputs)
    leaves = pytree.tree_leaves_with_path(outputs)
    return {path_name(path): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}
