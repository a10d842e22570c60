"""Find how a network's ONNX file depends on the kept counts of its channel groups, by comparing exports.

The dense network and a few of random widths are exported. Every number that differs between the files (a length of an
axis, an element of a shape, the groups of a convolution) has to be a multiple of a size that the channel graph knows;
this is checked on one more network, whose file is predicted.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from onnx import numpy_helper
from torch import nn

from backends import modelfile
from backends.modelfile import ModelFile
from benchmarks.errors import RecordError
from benchmarks.subject.subject import content_sha256
from benchmarks.tables.narrow import Narrower, drop_idle_relus
from benchmarks.tables.plan_space import AttributePlace, AxisPlace, GroupRange, PlanSpace, Size, ValuePlace
from benchmarks.tables.timer import Say
from deploy.errors import ExportError
from deploy.exporting.export import export_onnx
from deploy.exporting.export_info import DEFAULT_OPSET
from deploy.exporting.onnx_check import opset_of
from deploy.files.atomic import output_errors
from deploy.tables.kept_spaces import find_space, keep_space
from deploy.tables.onnx_blocks import block_places
from deploy.tables.whole_nodes import whole_nodes
from pruners.channels.program import named_tensors
from pruners.decide.budget import nothing_to_prune
from pruners.graph import Graph
from pruners.groups import ChannelGroup
from pruners.plan import PruningPlan
from pruners.surgery import apply

__all__ = ["DENSE", "PLAN_SPACE", "plan_space_of", "write_plan_space"]

DENSE = "dense.onnx"
PLAN_SPACE = "plan-space.json"

Key: TypeAlias = tuple[str, int, int | str, int]
"""Identifies a number: its kind, node, input or attribute, and axis or element."""

_MOST_DRAWS = 6
_CANDIDATES = 30
_LARGEST_SHAPE = 64
"""Maximum length of an integer constant that may be a shape or a list of sizes; a longer one is data."""


def plan_space_of(
    model: nn.Module,
    graph: Graph,
    example_inputs: Any,
    dense: Path,
    *,
    seed: int = 0,
    blocks: bool = False,
) -> PlanSpace:
    """Find which numbers of an ONNX file follow the kept counts.

    Parameters
    ----------
    model : Module
        The whole network.
    graph : Graph
        Its trace.
    example_inputs : Tensor, tuple, Mapping or (tuple, Mapping)
        With tensors of the shapes that `dense` was exported with, up to a free batch.
    dense : Path
        ONNX file of `model`, as `deploy.exporting.export.export_onnx` writes it.
    seed : int
        Seed of the random widths.
    blocks : bool
        Also find the residual blocks that can be left out.

    Raises
    ------
    NothingToPruneError
        No layer can lose a channel.
    ExportError
        The file of another width has other nodes, or a number that depends on the widths in a way the channel graph
        does not explain.
    """
    file = modelfile.read(dense)
    groups = [group for group in graph.groups if group.prunable and group.n_units > group.min_units]
    if not groups:
        raise nothing_to_prune(graph.whole)
    rng = random.Random(seed)
    draws = [{group.name: group.n_units for group in groups}]
    files = [dict(_numbers(onnx.load(dense)))]
    sizes = _known_sizes(model, graph.groups)
    kinds = len({_kind(size, draws[0]) for size in sizes})
    with tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder:
        narrow = partial(_export_narrow, model, graph, example_inputs, file, path=Path(folder) / "narrow.onnx")
        while len(draws) <= _MOST_DRAWS:
            counts = _draw(groups, rng, draws, sizes)
            numbers = dict(_numbers(narrow(counts)))
            if numbers.keys() != files[0].keys():
                raise ExportError(f"{dense}: a network of other widths is exported with other nodes: no plan space")
            if len(draws) > 2 or (len(draws) > 1 and _n_apart(sizes, draws) == kinds):
                explained = _explain(files, draws, sizes, dense)
                if all(_at(explained.get(key), counts, files[0][key]) == value for key, value in numbers.items()):
                    space = PlanSpace(
                        model_sha256=content_sha256(dense),
                        graph=graph.fingerprint,
                        groups=tuple(
                            GroupRange(name=group.name, n_units=group.n_units, min_units=group.min_units)
                            for group in groups
                        ),
                        places=tuple(_place(key, size) for key, size in explained.items()),
                        whole_layers=whole_nodes(file.proto.graph, graph),
                    )
                    if blocks:
                        found = block_places(file.proto.graph, graph.blocks, graph.groups, space.places)
                        space = space.model_copy(update={"blocks": found})
                    _require_blocks(dense, space, counts, narrow)
                    return space
            draws.append(counts)
            files.append(numbers)
    raise ExportError(f"{dense}: the sizes of a network of other widths are not those that the plan predicts")


def _export_narrow(
    model: nn.Module,
    graph: Graph,
    example_inputs: Any,
    file: ModelFile,
    counts: Mapping[str, int],
    blocks: tuple[str, ...] = (),
    *,
    path: Path,
) -> onnx.ModelProto:
    """Export the network that keeps the first units of each group, in the same way as `file`."""
    plan = PruningPlan.from_kept(
        {name: tuple(range(count)) for name, count in counts.items()},
        {name: graph.group(name).n_units for name in counts},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="plan-space",
        settings={},
        policy=graph.policy,
        blocks=blocks,
    )
    export_onnx(
        apply(model, plan, graph=graph, check=False),
        example_inputs,
        path,
        opset=opset_of(file.proto),
        dynamic_batch=any(isinstance(size, str) for spec in file.inputs for size in spec.shape),
        input_names=[spec.name for spec in file.inputs],
        output_names=[spec.name for spec in file.outputs],
    )
    return onnx.load(path)


def _require_blocks(
    dense: Path, space: PlanSpace, counts: Mapping[str, int], narrow: Callable[..., onnx.ModelProto]
) -> None:
    """Check that leaving all blocks out of the file gives the export of the network without them.

    Raises
    ------
    ExportError
        It does not.
    """
    if not space.blocks:
        return
    absent = {block.name: 0 for block in space.blocks}
    left = {name: count for name, count in space.complete({**counts, **absent}).items() if count}
    exported = narrow(left, tuple(absent))
    drop_idle_relus(exported.graph)  # only one form of the network has these after a block that is left out
    if dict(_numbers(exported)) != dict(_numbers(Narrower(dense, space).model({**left, **absent}))):
        raise ExportError(
            f"{dense}: without its residual blocks the network is exported in another way; prune units alone"
        )


def write_plan_space(
    model: nn.Module,
    graph: Graph,
    example_inputs: Any,
    folder: Path,
    *,
    seed: int = 0,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
    blocks: bool = False,
    say: Say = lambda _: None,
) -> PlanSpace:
    """Export a network as `DENSE` and write its plan space beside it, as `PLAN_SPACE`.

    The plan space of a network of the same structure is reused; `say` then receives a line about it.

    Raises
    ------
    ExportError
        See `plan_space_of`; or the network cannot be exported.
    OutputError, RecordError
        A file cannot be written to `folder`.
    """
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    dense = folder / DENSE
    export_onnx(model, example_inputs, dense, opset=opset, dynamic_batch=dynamic_batch)
    if (space := find_space(dense, graph, blocks=blocks)) is not None:
        say("the plan space of a network of the same structure is used")
    else:
        space = plan_space_of(model, graph, example_inputs, dense, seed=seed, blocks=blocks)
        try:
            keep_space(space, dense, graph, blocks=blocks)
        except RecordError as error:
            say(f"the plan space is used, and not kept for other runs: {error}")
    space.save(folder / PLAN_SPACE)
    return space


def _draw(
    groups: Sequence[ChannelGroup], rng: random.Random, draws: Sequence[Mapping[str, int]], sizes: Sequence[Size]
) -> dict[str, int]:
    """Draw counts in the upper half, below which a network may be exported differently.

    Of many draws, take the one that together with earlier draws distinguishes the most sizes; groups of few units could
    be mistaken for each other otherwise. Draws of the whole network tell nothing.
    """

    def drawn() -> dict[str, int]:
        counts: dict[str, int] = {}
        shares: set[Fraction] = set()
        for group in groups:
            # A group of a few units has too few narrower counts to be distinguished from another one.
            least = max(group.min_units, (group.n_units + 1) // 2)
            legal = range(least, group.n_units - (group.n_units > 4) + 1)
            apart = [count for count in legal if Fraction(count, group.n_units) not in shares]
            counts[group.name] = rng.choice(apart or legal)
            shares.add(Fraction(counts[group.name], group.n_units))
        return counts

    return max(
        (drawn() for _ in range(_CANDIDATES)),
        key=lambda counts: (counts != draws[0], _n_apart(sizes, [*draws, counts])),
    )


def _n_apart(sizes: Sequence[Size], draws: Sequence[Mapping[str, int]]) -> int:
    return len({_shape(size, draws) for size in sizes})


def _shape(size: Size, draws: Sequence[Mapping[str, int]]) -> tuple[Fraction, ...]:
    """Return a size in each draw as a share of its value in the first."""
    values = [size(counts) for counts in draws]
    return tuple(Fraction(value, values[0]) for value in values)


def _kind(size: Size, whole: Mapping[str, int]) -> frozenset[tuple[str, Fraction]]:
    """Return a key that is equal for sizes no draw can distinguish, as they are multiples of each other."""
    full = size(whole)
    return frozenset((name, Fraction(each, full)) for name, each in size.terms)


def _numbers(model: onnx.ModelProto) -> Iterator[tuple[Key, int]]:
    """Yield the numbers of a file that may depend on the widths."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        yield ("node", index, node.op_type, len(node.input)), 0
        for slot, name in enumerate(node.input):
            if (tensor := constants.get(name)) is None:
                continue
            for axis, length in enumerate(tensor.dims):
                yield ("axis", index, slot, axis), length
            if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
                values = numpy_helper.to_array(tensor).reshape(-1)
                for position, value in enumerate(values if values.size <= _LARGEST_SHAPE else ()):
                    yield ("value", index, slot, position), int(value)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.INT:
                yield ("attribute", index, attribute.name, 0), attribute.i
            elif attribute.type == onnx.AttributeProto.INTS:
                for position, value in enumerate(attribute.ints):
                    yield ("attribute", index, attribute.name, position), value


def _known_sizes(model: nn.Module, groups: Sequence[ChannelGroup]) -> list[Size]:
    """List the sizes that the channel graph knows: of each axis, each group in it, and the axis up to that group."""
    parts: dict[tuple[str, int], list[tuple[int, str, int]]] = {}
    for group in groups:
        for member in group.members:
            widths = {len(positions) for positions in member.indices}
            if len(widths) == 1 and (width := widths.pop()):
                parts.setdefault((member.path, member.axis), []).append((member.indices[0][0], group.name, width))
    free = {group.name for group in groups if group.prunable and group.n_units > group.min_units}
    whole = {group.name: group.n_units for group in groups}
    lengths = {name: tensor.shape for name, tensor in named_tensors(model).items()}
    sizes: dict[Size, None] = {}
    for (path, axis), pieces in parts.items():
        length = lengths[path][axis] - sum(width * whole[name] for _, name, width in pieces)
        for so_far in range(1, len(pieces) + 1):
            for chosen in {tuple(sorted(pieces)[:so_far]), (sorted(pieces)[so_far - 1],)}:
                base = sum(width * whole[name] for _, name, width in chosen if name not in free)
                terms: dict[str, int] = {}
                for _, name, width in chosen:
                    if name in free:
                        terms[name] = terms.get(name, 0) + width
                rest = length if len(chosen) == len(pieces) else 0
                if terms:
                    sizes.setdefault(Size(base=base + rest, terms=tuple(terms.items())))
    return list(sizes)


def _explain(
    files: Sequence[Mapping[Key, int]], draws: Sequence[Mapping[str, int]], sizes: Sequence[Size], dense: Path
) -> dict[Key, Size]:
    """Express each number that differs between the files as a multiple of a known size.

    Raises
    ------
    ExportError
        One is not.
    """
    by_shape: dict[tuple[Fraction, ...], Size] = {}
    for size in sizes:
        by_shape.setdefault(_shape(size, draws), size)
    explained = {}
    for key, value in files[0].items():
        values = [numbers[key] for numbers in files]
        if len(set(values)) == 1:
            continue
        known = by_shape.get(tuple(Fraction(each, value) for each in values)) if value else None
        scale = Fraction(value, known(draws[0])) if known is not None else Fraction(1)
        if known is None or any((scale * each).denominator != 1 for each in (known.base, *dict(known.terms).values())):
            kind, node, which, place = key
            raise ExportError(
                f"{dense}: {kind} {which}[{place}] of node {node} follows the widths in a way that the channel groups "
                f"do not explain ({', '.join(map(str, values))}): no latency table can be made for this network"
            )
        terms = tuple((name, int(scale * each)) for name, each in known.terms)
        explained[key] = Size(base=int(scale * known.base), terms=terms)
    return explained


def _at(size: Size | None, counts: Mapping[str, int], otherwise: int) -> int:
    return otherwise if size is None else size(counts)


def _place(key: Key, size: Size) -> AxisPlace | ValuePlace | AttributePlace:
    kind, node, which, index = key
    if kind == "attribute":
        return AttributePlace(node=node, name=str(which), index=index, size=size)
    if kind == "axis":
        return AxisPlace(node=node, input=int(which), axis=index, size=size)
    return ValuePlace(node=node, input=int(which), index=index, size=size)
