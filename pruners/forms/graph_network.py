"""`GraphNetwork`: a network that runs the program it was traced to, where its own code cannot run it any more."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from pruners.errors import SurgeryError, TrainingError
from pruners.modules.calls import NetworkCall

__all__ = ["GraphNetwork", "ProgramGraph"]


@dataclass(frozen=True, eq=False)
class ProgramGraph:
    """A graph, and what it fetches.

    Parameters
    ----------
    graph : Graph
        Its ``get_attr`` nodes name tensors by the keys of `fetches`.
    fetches : Mapping of str to str
        Target in the graph -> name of a parameter or buffer of the network.
    """

    graph: fx.Graph
    fetches: Mapping[str, str]


class GraphNetwork(nn.Module):
    """The graph form of a pruned network.

    Parameters and buffers have the names that they have in the network it comes from, and are shared by two graphs:
    the one of evaluation and the one of training, between which `train` and `eval` switch. Modes of single layers
    (a BatchNorm that is frozen while the rest trains) do not exist in it, nor do hooks and other methods. The exporter
    wrote sizes into the graph, so that it takes inputs of the traced shapes only (any batch size, where that was
    possible), in the arguments in which it was traced.

    Parameters
    ----------
    tensors : Mapping of str to Tensor
        Parameters (as `nn.Parameter`) and buffers by name; one tensor may have several names.
    not_saved : collection of str
        Names of the buffers that are not part of the state.
    evaluation : ProgramGraph
    training : ProgramGraph or str
        The graph of training mode, or the reason why there is none.
    original : str
        Name of the class that it stands for.
    reason : str
        Why it is needed, in one line.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        not_saved: frozenset[str],
        evaluation: ProgramGraph,
        training: ProgramGraph | str,
        original: str,
        reason: str = "",
    ) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            parent, attribute = _holder(self, name)
            if isinstance(tensor, nn.Parameter):
                parent.register_parameter(attribute, tensor)
            else:
                parent.register_buffer(attribute, tensor, persistent=name not in not_saved)
        self.original = original
        self.reason = reason
        # Not as submodules: they hold no tensors of their own.
        object.__setattr__(self, "_programs", {False: evaluation, True: training})
        object.__setattr__(self, "_bound", {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph of the present mode.

        Raises
        ------
        TrainingError
            In training mode, if the original cannot be traced in training mode.
        SurgeryError
            Other arguments than those that it was traced with, or inputs of other shapes; the batch size may differ
            where that could be traced.
        """
        runner = self._runner()
        call = _as_traced(self.original, runner, args, kwargs)
        _check_inputs(self.original, runner.graph, call)
        return call(runner)

    def _runner(self) -> fx.GraphModule:
        bound: dict[bool, fx.GraphModule] = self.__dict__["_bound"]
        if self.training not in bound:
            program: ProgramGraph | str = self.__dict__["_programs"][self.training]
            if isinstance(program, str):
                raise TrainingError(f"{self.original} as a graph runs in evaluation mode only: {program}")
            bound[self.training] = _bind(self, program)
        return bound[self.training]

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphNetwork:
        twin = GraphNetwork.__new__(GraphNetwork)
        nn.Module.__init__(twin)
        memo[id(self)] = twin
        for key, item in self.__dict__.items():
            if key not in {"_programs", "_bound"}:
                twin.__dict__[key] = copy.deepcopy(item, memo)
        object.__setattr__(twin, "_programs", self.__dict__["_programs"])
        object.__setattr__(twin, "_bound", {})
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a GraphNetwork is not pickled: keep its plan and its weights (pruners.forms.compact.save_weights)"
        )

    def extra_repr(self) -> str:
        """Return what it stands for."""
        return f"{self.original} as a graph: {self.reason}" if self.reason else f"{self.original} as a graph"


def _holder(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds a dotted name, made of empty modules where it is missing."""
    *parents, attribute = name.split(".")
    module = root
    for part in parents:
        child = module._modules.get(part)
        if child is None:
            child = nn.Module()
            module.add_module(part, child)
        module = child
    return module, attribute


def _as_traced(original: str, runner: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NetworkCall:
    """Put arguments by position or by keyword as they were when the network was traced."""
    signature = inspect.signature(runner.forward)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        takes = ", ".join(signature.parameters)
        raise SurgeryError(f"{original} as a graph takes what it was traced with, ({takes}): {error}") from error
    by_position = runner.graph._codegen.pytree_info.in_spec.child(0).num_children  # type: ignore[attr-defined]
    names = list(given)
    return NetworkCall(tuple(given[n] for n in names[:by_position]), {n: given[n] for n in names[by_position:]})


def _check_inputs(original: str, graph: fx.Graph, call: NetworkCall) -> None:
    """Compare what the graph was traced with; a size that it takes as it comes is not a plain number."""
    traced = [node.meta["val"] for node in graph.nodes if node.op == "placeholder"]
    if len(call.leaves) != len(traced):
        raise SurgeryError(f"{original} as a graph takes {len(traced)} inputs, got {len(call.leaves)}")
    for want, have in zip(traced, call.leaves, strict=True):
        if not isinstance(want, Tensor) or not isinstance(have, Tensor):
            if isinstance(want, Tensor) or isinstance(have, Tensor) or want != have:
                raise SurgeryError(
                    f"{original} as a graph was traced with {_told(want)}, got {_told(have)}: trace again"
                )
        elif want.ndim != have.ndim or any(
            isinstance(a, int) and a != b for a, b in zip(want.shape, have.shape, strict=True)
        ):
            sizes = ["any" if not isinstance(size, int) else size for size in want.shape]
            raise SurgeryError(
                f"{original} as a graph runs on inputs of shape {sizes} only, got {list(have.shape)}: "
                "trace and prune it with inputs of the size that it will run on"
            )


def _told(value: Any) -> str:
    return "a tensor" if isinstance(value, Tensor) else repr(value)


def _bind(network: GraphNetwork, program: ProgramGraph) -> fx.GraphModule:
    """Make a module that runs the graph on the network's own tensors, whatever becomes of them."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    result = graph.graph_copy(program.graph, copies)
    graph.output(result)
    graph.set_codegen(copy.copy(program.graph._codegen))
    for node in graph.nodes:
        if node.op == "get_attr":
            node.target = program.fetches[str(node.target)]
    module = fx.GraphModule(network, graph)
    # The same dictionaries, not copies: `to`, `load_state_dict` and torch.export replace tensors in them.
    module._modules = network._modules
    module._parameters = network._parameters
    module._buffers = network._buffers
    return module
