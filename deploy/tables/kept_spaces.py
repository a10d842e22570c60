"""Cache of plan spaces, keyed by the structure of the network's file: weights do not matter."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from benchmarks.errors import RecordError
from benchmarks.machine.state import state_folder
from benchmarks.records.file import version_of
from benchmarks.subject.subject import content_sha256
from benchmarks.tables.cache import keep, newest_first
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.sources.boundary import versions

if TYPE_CHECKING:
    from pruners.graph import Graph

__all__ = ["find_space", "keep_space", "space_of_table", "spaces_folder"]

_WRITERS = ("prune-deploy", "torch", "onnx", "onnxscript", "onnx-ir")


def spaces_folder() -> Path:
    """Return the cache folder: ``plan-spaces`` in the folder for this machine's state."""
    return state_folder() / "plan-spaces"


def find_space(dense: Path, graph: Graph, *, blocks: bool, folder: Path | None = None) -> PlanSpace | None:
    """Return the plan space kept for a file with the same nodes, shapes and channel groups, if any.

    Parameters
    ----------
    dense : Path
        ONNX file of the whole network.
    graph : Graph
        Its trace.
    blocks : bool
        Whether it includes residual blocks that can be left out.
    folder : Path, optional
        Default: `spaces_folder`.

    Returns
    -------
    PlanSpace or None
        Plan space for this file; None if none is kept from the same versions of everything that exports.
    """
    path = (folder or spaces_folder()) / _name(dense, graph, blocks)
    try:
        return PlanSpace.load(path).model_copy(update={"model_sha256": content_sha256(dense)})
    except RecordError:
        return None


def space_of_table(table: LatencyTable, dense: Path, *, folder: Path | None = None) -> PlanSpace | None:
    """Return the newest kept plan space with the groups and blocks of a file's table, if any.

    Parameters
    ----------
    table : LatencyTable
        Table of `dense`.
    dense : Path
        ONNX file of the whole network.
    folder : Path, optional
        Default: `spaces_folder`.
    """
    for path in newest_first((folder or spaces_folder()).glob(f"{_structure(dense)}-*.json")):
        try:
            space = PlanSpace.load(path)
        except RecordError:
            continue
        if (space.graph, space.whole) == (table.key.graph, table.whole):
            return space.model_copy(update={"model_sha256": content_sha256(dense)})
    return None


def keep_space(space: PlanSpace, dense: Path, graph: Graph, *, blocks: bool, folder: Path | None = None) -> None:
    """Keep the plan space of a file, for others with the same structure.

    Raises
    ------
    RecordError
        The folder cannot be written to.
    """
    keep(space, (folder or spaces_folder()) / _name(dense, graph, blocks))


def _name(dense: Path, graph: Graph, blocks: bool) -> str:
    groups = [(group.name, group.n_units, group.min_units, group.prunable) for group in graph.groups]
    parts = [
        graph.fingerprint,
        groups,
        blocks,
        versions(*_WRITERS),
        version_of(PlanSpace),
        sorted(PlanSpace.model_fields),  # one that lacks a field that plan spaces have now is made anew
    ]
    rest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    return f"{_structure(dense)}-{rest}.json"


def _structure(dense: Path) -> str:
    """Return a hash of an ONNX file without the values of its weights."""
    model = onnx.load(dense, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            if uses_external_data(tensor):
                load_external_data_for_tensor(tensor, str(dense.resolve().parent))
                tensor.ClearField("external_data")
        else:
            shaped = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(shaped)
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:32]
