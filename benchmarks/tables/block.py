"""Number of channels a runtime computes together (its block): from a stored table, or measured on a small network.

The small network consists of convolutions, measured at many widths.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.errors import SettingError, WorkerError
from benchmarks.layers.process import Processes, session_process
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.subject.subject import SubjectSpec, content_sha256
from benchmarks.tables.best_fit import best_fit
from benchmarks.tables.build import tables_kept_for
from benchmarks.tables.draws import draw
from benchmarks.tables.fit import layer_sizes
from benchmarks.tables.plan_space import AxisPlace, GroupRange, PlanSpace, Size
from benchmarks.tables.timer import Say, plan_timer

__all__ = ["BlockSource", "KnownBlock", "find_block", "known_block", "measured_block"]

BlockSource: TypeAlias = Literal["table", "measured", "unknown"]

_WIDTH, _LENGTH = 96, 14
_KERNELS = (1, 3, 1, 3, 1)
_PLANS, _GRAINS = 25, (1, 4, 8, 16, 32)
_TOO_FAR = 0.15
"""Mean error on held-out plans above which the times show no block."""
_OPSET, _IR_VERSION = 17, 8


class KnownBlock(NamedTuple):
    """Number of channels computed together, and how it is known.

    Parameters
    ----------
    size : int or None
        1 if every channel costs the same; None if unknown.
    source : {"table", "measured", "unknown"}
        How the size is known.
    why : str
        Why it is unknown, in words; empty if it is known, or if the times follow no block.
    """

    size: int | None
    source: BlockSource
    why: str = ""


def known_block(
    spec: SubjectSpec,
    *,
    seed: int = 0,
    say: Say = lambda _: None,
    folder: Path | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> KnownBlock:
    """Return the block size from the stored latency table of a network, or measure it if there is none.

    Parameters
    ----------
    spec : SubjectSpec
        The network, the backend and its options.
    seed, processes, machine
        As in `find_block`.
    say : callable
        Receives the line that says which table is used, or that the block is measured.
    folder : Path, optional
        Folder of tables; default: `benchmarks.tables.cache.tables_folder`.
    """
    kept, _ = tables_kept_for(spec, say=say, folder=folder, machine=machine)
    if kept:
        path, table = kept[0]
        say(f"the channels that {spec.backend} computes together are those of {path}")
        return KnownBlock(table.block, "table")
    return measured_block(spec, seed=seed, say=say, processes=processes, machine=machine)


def measured_block(
    spec: SubjectSpec,
    *,
    seed: int = 0,
    say: Say = lambda _: None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> KnownBlock:
    """Return the block size that a small network shows, or why it shows none.

    Parameters
    ----------
    spec, seed, processes, machine
        As in `find_block`.
    say : callable
        Receives one short line.
    """
    try:
        size = find_block(spec, seed=seed, progress=say, processes=processes, machine=machine)
    except (SettingError, WorkerError) as error:
        too_short = isinstance(error, SettingError) or error.kind == "OptionError"
        return KnownBlock(
            None, "unknown", "the layers are shorter than its clock resolves" if too_short else str(error)
        )
    return KnownBlock(size, "unknown" if size is None else "measured")


def find_block(
    spec: SubjectSpec,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> int | None:
    """Measure a small network at many widths and return the block size that its times follow.

    Parameters
    ----------
    spec : SubjectSpec
        The backend and its options; the model is not used, and the small network is in fp32.
    seed : int
        Seed of the widths.
    progress : callable, optional
        Receives one short line.
    processes, machine
        As in `benchmarks.tables.build.build_table`.

    Returns
    -------
    int or None
        1 if every channel costs the same; None if the times follow no block, as on a busy machine.

    Raises
    ------
    WorkerError, SettingError
        The backend refuses the network, or reports no layer times; all of them are 0.
    """
    say = progress or (lambda _: None)
    say(f"find out how many channels {spec.backend} computes together")
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="prune-deploy-") as folder:
        path = Path(folder) / "block.onnx"
        model = _network()
        onnx.save_model(model, path)
        space = _space(path)
        sized = layer_sizes(model.graph, space)
        with plan_timer(
            SubjectSpec(model=path, backend=spec.backend, options=replace(spec.options, precision="fp32")),
            space,
            purpose=f"the blocks of channels of {spec.backend}",
            seed=seed,
            say=say,
            processes=processes,
            machine=machine or ThisMachine(),
        ) as timer:
            grains = (_GRAINS[i % len(_GRAINS)] for i in range(_PLANS))
            runs = [timer(draw(space, sized, rng, block=grain, least=0.4, most=1.0)) for grain in grains]
    fit, held_out, _ = best_fit(runs, sized)
    return None if held_out.mape > _TOO_FAR else fit.block


def _network() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    shapes = [(_WIDTH, _WIDTH, kernel, kernel) for kernel in _KERNELS]
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) / 30).astype(np.float32), f"w{i}")
        for i, shape in enumerate(shapes)
    ]
    nodes = [
        helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"], name=f"conv{i}", pads=[kernel // 2] * 4)
        for i, kernel in enumerate(_KERNELS)
    ]
    size = [1, _WIDTH, _LENGTH, _LENGTH]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("t0", f"t{len(nodes)}")]
    graph = helper.make_graph(nodes, "block", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _space(path: Path) -> PlanSpace:
    """Return a plan space in which each width between two convolutions is a group; input and output stay."""
    groups = [f"g{i}" for i in range(len(_KERNELS) - 1)]
    axes = [(i, 0, group) for i, group in enumerate(groups)] + [(i + 1, 1, group) for i, group in enumerate(groups)]
    return PlanSpace(
        model_sha256=content_sha256(path),
        graph="block",
        groups=tuple(GroupRange(name=group, n_units=_WIDTH) for group in groups),
        places=tuple(AxisPlace(node=i, input=1, axis=axis, size=Size(terms=((g, 1),))) for i, axis, g in axes),
    )
