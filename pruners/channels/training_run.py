"""Record a training pass as it runs, for networks whose training path torch.export refuses."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from pruners.channels.program import Program
from pruners.errors import FOREIGN, TraceError, first_line
from pruners.modules.calls import NetworkCall
from pruners.modules.copies import copy_of

__all__ = ["record_training"]


def record_training(model: nn.Module, example: NetworkCall, *, seed: int) -> Program:
    """Run a copy of `model` in training mode and record its operators.

    Anything that depends on values (a layer that is dropped at random) is recorded as it went in this run: the program
    shows which tensors meet, and is not meant to be run.

    Parameters
    ----------
    example : NetworkCall
        Tensors of shape (batch, ...), on the model's device.
    seed : int
        Seeds what the network draws.

    Raises
    ------
    TraceError
        The network does not run in training mode, or not under torch's tracer.
    """
    twin = copy_of(model).train()
    tensors: dict[str, Tensor] = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}

    if example.batch == 1:  # BatchNorm needs at least two values to train
        example = example.map(lambda item: torch.cat([item, item]))

    def run(own: dict[str, Tensor], given: tuple[Tensor, ...]) -> object:
        inputs = iter(given)
        call = example.map(lambda _: next(inputs))
        return torch.func.functional_call(twin, own, call.args, call.kwargs)

    tracer = make_fx(
        run, tracing_mode="real", pre_dispatch=True, record_module_stack=True, _error_on_data_dependent_ops=False
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = tracer(tensors, example.tensors)
    except FOREIGN as error:
        raise TraceError(f"{type(model).__name__} cannot be followed in training: {first_line(error)}") from error
    return Program(module, _fetched(module, tensors), dynamic_batch=False, batch=example.batch or 1)


def _fetched(module: fx.GraphModule, tensors: dict[str, Tensor]) -> dict[str, str]:
    """Make the graph fetch the network's tensors instead of taking them as its first inputs; return their names."""
    names: dict[str, str] = {}
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node, (name, tensor) in zip(inputs, tensors.items(), strict=False):
        attribute = f"tensor_{len(names)}"
        module.register_buffer(attribute, tensor)
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(attribute))
        module.graph.erase_node(node)
        names[attribute] = name
    return names
