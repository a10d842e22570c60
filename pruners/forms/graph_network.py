"""`GraphNetwork`: runs a pruned network as its traced program, if its own code can no longer run it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.utils import _pytree as pytree

from pruners.channels.propagation import hint
from pruners.errors import SurgeryError, TrainingError
from pruners.modules.kept_state import KeptState

__all__ = ["GraphNetwork", "ProgramGraph", "copied"]

_REMEDY = "trace and prune it with inputs of the size that it will run on"


@dataclass(frozen=True, eq=False)
class ProgramGraph:
    """A graph and the tensors that it fetches.

    Parameters
    ----------
    graph : Graph
        Its ``get_attr`` nodes name tensors by the keys of `fetches`.
    fetches : Mapping of str to str
        Target in the graph -> name of a parameter or buffer of the network.
    constants : Mapping of str to Tensor
        Fetched tensors that the original has no name for, by name.
    layers : Mapping of str to Module
        Dropout layers that the graph calls, by path: their rate can be changed.
    guard : callable, optional
        See `pruners.channels.program.Program`.
    """

    graph: fx.Graph
    fetches: Mapping[str, str]
    constants: Mapping[str, Tensor]
    layers: Mapping[str, nn.Module]
    guard: Callable[..., object] | None = None


class GraphNetwork(nn.Module):
    """The graph form of a pruned network.

    Parameters and buffers keep the names that they have in the original network, and are shared by two graphs, one for
    evaluation and one for training; `train` and `eval` switch between them. Modes of single layers (a BatchNorm frozen
    while the rest trains), hooks and other methods do not exist in it; dropout layers do, under their original paths.
    It is called with the arguments of the original's ``forward``. It takes inputs of other sizes than the traced ones
    (batch, height, width, length) as far as these could be traced; if the network's code computes differently at
    another size, the exporter fixed the size in the graph.

    Parameters
    ----------
    tensors : Mapping of str to Tensor
        Parameters (as `nn.Parameter`) and buffers by name; one tensor may have several names.
    not_saved : collection of str
        Names of the buffers that are not in the state dict.
    evaluation : ProgramGraph
    training : ProgramGraph or str
        The graph for training mode, or why there is none.
    original : str
        Name of the class that it replaces.
    signature : Signature
        Signature of that class's ``forward``.
    reason : str
        Why the graph form is needed, in one line.
    kept : KeptState, optional
        What the original's modules kept from earlier calls when it was traced.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        not_saved: frozenset[str],
        evaluation: ProgramGraph,
        training: ProgramGraph | str,
        original: str,
        signature: inspect.Signature,
        reason: str = "",
        kept: KeptState | None = None,
    ) -> None:
        super().__init__()
        programs = [program for program in (evaluation, training) if isinstance(program, ProgramGraph)]
        constants = {name: tensor for program in programs for name, tensor in program.constants.items()}
        for path, layer in ((path, layer) for program in programs for path, layer in program.layers.items()):
            parent, attribute = _holder(self, path)
            parent.add_module(attribute, layer)
        for name, tensor in {**tensors, **constants}.items():
            parent, attribute = _holder(self, name)
            if isinstance(tensor, nn.Parameter):
                parent.register_parameter(attribute, tensor)
            else:
                parent.register_buffer(attribute, tensor, persistent=name not in not_saved)
        self.original = original
        self.signature = signature
        self.reason = reason
        self.kept = kept
        # Not as submodules: they hold no tensors of their own.
        object.__setattr__(self, "_programs", {False: evaluation, True: training})
        object.__setattr__(self, "_bound", {})

    @property
    def forward(self) -> Callable[..., Any]:  # type: ignore[override]
        """Function that runs the graph of the current mode, with the signature of the original's.

        Raises
        ------
        TrainingError
            In training mode, if the original cannot be traced in training mode.
        SurgeryError
            Inputs of other shapes, or other arguments, than it was traced with; sizes may differ if that could be
            traced.
        """

        def forward(*args: Any, **kwargs: Any) -> Any:
            runner = self._runner()
            arranged, named, same = _as_traced(self.original, runner.graph, self.signature, args, kwargs)
            guard = self.__dict__["_programs"][self.training].guard
            if guard is not None and not same:
                _check_sizes(self.original, guard, pytree.tree_leaves((tuple(arranged), named)))
            return runner(*arranged, **named)

        forward.__signature__ = self.signature  # type: ignore[attr-defined]
        return forward

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
        """Return the class that it replaces, and why."""
        return f"{self.original} as a graph: {self.reason}" if self.reason else f"{self.original} as a graph"


def copied(graph: fx.Graph) -> fx.Graph:
    """Return a graph of the same nodes, called in the same way."""
    twin = fx.Graph()
    twin.output(twin.graph_copy(graph, {}))
    twin.set_codegen(copy.copy(graph._codegen))
    return twin


def _holder(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that holds a dotted name, made of empty modules if it is missing."""
    *parents, attribute = name.split(".")
    module = root
    for part in parents:
        child = module._modules.get(part)
        if child is None:
            child = nn.Module()
            module.add_module(part, child)
        module = child
    return module, attribute


def _as_traced(
    original: str, graph: fx.Graph, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], bool]:
    """Arrange the arguments of a call like those of the traced call, and compare the two.

    Returns
    -------
    tuple of (list, dict, bool)
        Positional and keyword arguments, and whether all sizes but the batch are those of the traced call.
    """
    codegen: Any = graph._codegen
    leaves = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"]
    traced_args, traced_kwargs = pytree.tree_unflatten(leaves, codegen.pytree_info.in_spec)
    places = _by_argument(signature.bind(*range(len(traced_args)), **{name: name for name in traced_kwargs}))
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise SurgeryError(f"{original} as a graph: {error}") from error
    bound.apply_defaults()
    given = _by_argument(bound)
    arranged: dict[Any, Any] = {}
    same = True
    for name, place in places.items():
        traced = traced_args[place] if isinstance(place, int) else traced_kwargs[place]
        if name not in given:
            raise SurgeryError(f"{original} as a graph was traced with {_argument(name)}: it is missing")
        arranged[place] = given.pop(name)
        same &= _check(original, _argument(name), traced, arranged[place])
    for name, item in given.items():
        default = signature.parameters[name[0]].default
        if item is not default:
            raise SurgeryError(f"{original} as a graph was traced without {_argument(name)}: leave it out")
    by_name = {name: arranged[name] for name in traced_kwargs}
    return [arranged[place] for place in range(len(traced_args))], by_name, same


def _by_argument(bound: inspect.BoundArguments) -> dict[tuple[Any, ...], Any]:
    """Return the passed values by parameter name, plus the place in ``*args`` or the name in ``**kwargs``."""
    passed: dict[tuple[Any, ...], Any] = {}
    for name, item in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            passed.update({(name, place): one for place, one in enumerate(item)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            passed.update({(name, key): one for key, one in item.items()})
        else:
            passed[name,] = item
    return passed


def _argument(name: tuple[Any, ...]) -> str:
    return f"argument {name[-1] + 1}" if isinstance(name[-1], int) else f"{name[-1]!r}"


def _check(original: str, argument: str, traced: Any, given: Any) -> bool:
    """Compare an argument with the traced one; a dynamic size of the graph is not a plain number.

    Returns
    -------
    bool
        Whether all sizes but the batch are the traced ones.
    """
    wanted, form = pytree.tree_flatten(traced)
    try:
        passed = form.flatten_up_to(given)
    except ValueError:
        passed = []
    if [isinstance(item, Tensor) for item in wanted] != [isinstance(item, Tensor) for item in passed]:
        raise SurgeryError(
            f"{original} as a graph was traced with {argument} of another kind than {type(given).__name__}"
        )
    same = True
    for want, have in zip(wanted, passed, strict=True):
        if not isinstance(want, Tensor):
            if want != have:
                raise SurgeryError(f"{original} as a graph was traced with {argument} = {want!r}, got {have!r}")
        elif want.ndim != have.ndim or any(
            hint(a) != b if is_concrete_int(a) else axis and b == 1  # a size of 1 needs another program
            for axis, (a, b) in enumerate(zip(want.shape, have.shape, strict=True))
        ):
            sizes = [hint(size) if is_concrete_int(size) else "any" for size in want.shape]
            raise SurgeryError(
                f"{original} as a graph runs on inputs of shape {sizes} only, got {list(have.shape)}: {_REMEDY}"
            )
        else:
            free = [(a, b) for a, b in zip(want.shape[1:], have.shape[1:], strict=True) if not is_concrete_int(a)]
            same &= all(isinstance(b, int) and hint(a) == b for a, b in free)
    return same


def _check_sizes(original: str, guard: Callable[..., object], leaves: list[Any]) -> None:
    """Refuse sizes that the network's code handles differently from the traced ones."""
    try:
        guard(*leaves)
    except AssertionError as error:
        needed = str(error).removeprefix("Guard failed: ")
        shapes = ", ".join(str(list(item.shape)) for item in leaves if isinstance(item, Tensor))
        raise SurgeryError(
            f"{original} as a graph does not run on inputs of shape {shapes}, its code needs {needed}: {_REMEDY}"
        ) from error


def _bind(network: GraphNetwork, program: ProgramGraph) -> fx.GraphModule:
    """Make a module that runs the graph on the network's own tensors, also after they are replaced."""
    graph = copied(program.graph)
    for node in graph.nodes:
        if node.op == "get_attr":
            node.target = program.fetches[str(node.target)]
    module = fx.GraphModule(network, graph)
    # The same dictionaries, not copies: `to`, `load_state_dict` and torch.export replace tensors in them.
    module._modules = network._modules
    module._parameters = network._parameters
    module._buffers = network._buffers
    return module
