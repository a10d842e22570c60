"""Build a latency table from random measured plans, in two rounds; the second uses the block sizes of the first.

If the first round cannot tell some blocks apart, the plans of the second are multiples of each in turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from backends import modelfile, registry
from benchmarks.errors import NotComparableError, RecordError, SettingError
from benchmarks.layers.process import Processes, session_process
from benchmarks.machine.machine import Machine, ThisMachine
from benchmarks.machine.noise_floor import fingerprint
from benchmarks.subject.subject import SubjectSpec, content_sha256
from benchmarks.tables.best_fit import BLOCKS, best_fit, blocks_in_doubt
from benchmarks.tables.cache import find_table, keep_table, kept_tables
from benchmarks.tables.draws import ABSENT, draw, draw_near
from benchmarks.tables.fit import Run, dense_of, layer_sizes
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.staircases import LayerSizes
from benchmarks.tables.table import LatencyTable, TableKey
from benchmarks.tables.timer import PlanTimer, Say, key_of, plan_timer, sizes_of

__all__ = ["build_table", "key_here", "refine_table", "table_of", "tables_kept_for"]

_FEWEST = 20
_FIRST_ROUND = 0.4
_GRAINS = (32, 16, 8, 4, 1)
"""Counts of the first round are multiples of these: full blocks of many sizes, and partly filled blocks."""
_AROUND = 8
"""Plans measured around a decided one."""


def build_table(
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    plans: int = 40,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> LatencyTable:
    """Measure random plans and fit how the time of each layer depends on the widths.

    Parameters
    ----------
    spec : SubjectSpec
        The dense ONNX file, the backend, its options and the inputs.
    space : PlanSpace
        Which parts of the file depend on the kept counts.
    plans : int, default=40
        Plans to measure, at least 20.
    seed : int
        Seed of the plans and the inputs.
    progress : callable, optional
        ``progress(line, share_done)``.
    processes : callable
        Starts the process that runs the plans.
    machine : Machine, optional
        Machine to measure on; by default this one, under its lock.

    Raises
    ------
    SettingError
        Too few plans.
    RecordError
        The plan space belongs to another file.
    InputError, BackendError
        The file is broken, or an input size was not given.
    WorkerError
        The backend refuses the file, or reports no layer times.
    """
    if plans < _FEWEST:
        raise SettingError(f"a table needs at least {_FEWEST} plans, got {plans}")
    runs: list[Run] = []

    def say(line: str) -> None:
        if progress is not None:
            progress(line, len(runs) / plans)

    machine = machine or ThisMachine()
    sized = layer_sizes(modelfile.read(spec.model).proto.graph, space)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    begin = machine.now_s()
    rng = random.Random(seed)
    first = round(_FIRST_ROUND * plans)
    grains: Sequence[int] = _GRAINS
    purpose = f"deploy table build {spec.model}"
    with plan_timer(spec, space, purpose=purpose, seed=seed, say=say, processes=processes, machine=machine) as timer:
        for index in range(plans):
            if index == first:
                grains = blocks_in_doubt(runs, sized)
                say(f"{spec.backend} computes {' or '.join(map(str, grains))} channels together")
            absent = ABSENT if index % 2 else 0.0
            if index % (plans // 3) == 0:  # repeat the dense network to notice a slowed machine
                counts = space.whole
            elif index < first:
                counts = draw(space, sized, rng, block=grains[index % len(grains)], least=0.2, most=1.0, absent=absent)
            else:
                # Neither the parity of `absent` nor the folds of `best_fit` go with the grain.
                grain = grains[index // 2 % len(grains)]
                counts = draw(space, sized, rng, block=grain, least=0.35, most=1.0, absent=absent)
            runs.append(timer(counts))
            say(f"plan {index + 1}/{plans}: {runs[-1].share:.3f} of the dense network's time")
        key = timer.key(runs[0])
    return _table(key, started, lambda: machine.now_s() - begin, space, runs, sized)


def table_of(
    spec: SubjectSpec,
    space: PlanSpace,
    *,
    plans: int = 40,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    say: Say = lambda _: None,
    folder: Path | None = None,
    processes: Processes = session_process,
    machine: Machine | None = None,
) -> LatencyTable:
    """Return the stored table for the same network, backend, options and machine, or measure one.

    Parameters
    ----------
    spec, space, plans, seed, progress, processes, machine
        As in `build_table`.
    say : callable
        Receives the line that says which table is used, or why one is measured.
    folder : Path, optional
        Folder of tables; default: `benchmarks.tables.cache.tables_folder`.

    Raises
    ------
    SettingError, RecordError, InputError, BackendError, WorkerError
        As in `build_table`.
    """
    machine = machine or ThisMachine()
    key = key_here(spec, space.model_sha256, space.graph, say, machine)
    found, line = find_table(key, space, plans, folder)
    say(line)
    if found is None:
        found = build_table(
            spec, space, plans=plans, seed=seed, progress=progress, processes=processes, machine=machine
        )
        try:
            keep_table(found, space, plans, folder)
        except RecordError as error:
            say(f"the table is used, and not kept for other runs: {error}")
    return found


def tables_kept_for(
    spec: SubjectSpec, *, say: Say = lambda _: None, folder: Path | None = None, machine: Machine | None = None
) -> tuple[tuple[tuple[Path, LatencyTable], ...], str]:
    """Return the stored tables of a network for this backend, its options and this machine, of any plan space.

    Parameters
    ----------
    spec, say, folder, machine
        As in `table_of`.

    Returns
    -------
    (tuple of (Path, LatencyTable), str)
        The tables, newest first, and why the first unsuitable one, preferably of this backend, does not fit; empty if
        there is none.

    Raises
    ------
    InputError, BackendError
        The file is broken, or an input size was not given.
    """
    sha256 = content_sha256(spec.model)
    candidates = [(path, table) for path, table in kept_tables(folder) if table.key.model_sha256 == sha256]
    candidates.sort(key=lambda each: each[1].key.backend != spec.backend)
    if not candidates:
        return (), ""
    key = key_here(spec, sha256, "", say, machine or ThisMachine())
    found, other = [], ""
    for path, table in candidates:
        try:
            table.require(key.model_copy(update={"graph": table.key.graph}), str(path))
            found.append((path, table))
        except NotComparableError as error:
            other = other or str(error).removesuffix(": build it again")
    return tuple(found), other


def key_here(spec: SubjectSpec, model_sha256: str, graph: str, say: Say, machine: Machine) -> TableKey:
    """Return the key that a table needs to be used here and now; nothing is run for it.

    Parameters
    ----------
    spec : SubjectSpec
        The dense ONNX file, the backend, its options and the inputs.
    model_sha256, graph : str
        Of the file and of its plan space.
    say : callable
        Receives a line while another process holds the machine.
    machine : Machine
        The machine it is for.

    Raises
    ------
    InputError, BackendError
        The file is broken, or an input size was not given.
    """
    device = spec.options.device
    with machine.measuring(f"a latency table of {spec.model}", say) as observer:
        fingerprinted = fingerprint(observer.environment(gpu=device.startswith("cuda")))
    version = registry.probe(spec.backend, device).version
    return key_of(spec, model_sha256, graph, sizes_of(spec), fingerprinted, version)


def refine_table(
    table: LatencyTable,
    timer: PlanTimer,
    counts: Mapping[str, int],
    *,
    share: float,
    seed: int = 0,
    say: Say = lambda _: None,
) -> LatencyTable:
    """Measure a plan by layer and others around it, and refit the table with them, keeping its block.

    Parameters
    ----------
    table : LatencyTable
        Table of the same network.
    timer : PlanTimer
        Timer of that network, with the same backend, options and machine.
    counts : Mapping of str to int
        The plan.
    share : float
        Its time share as measured by `PlanTimer.share`.
    seed : int
        Seed of the plans around it.
    say : callable
        Receives one short line per plan.
    """
    rng, begin = random.Random(seed), timer.now_s()
    space, dense_ns = timer.narrower.space, table.measured_dense_ns
    sized = layer_sizes(modelfile.read(timer.dense).proto.graph, space)
    say("time the layers of the plan")
    near = [replace(timer(counts), share=share)]
    for index in range(_AROUND):
        near.append(timer(draw_near(space, sized, rng, counts, block=table.block)))
        say(f"plan {index + 1}/{_AROUND} around it: {near[-1].share:.3f} of the dense network's time")
    known = [Run.of(plan, dense_ns) for plan in table.plans if not plan.near]
    before = [Run.of(plan, dense_ns) for plan in table.plans if plan.near]
    return _table(
        table.key,
        table.started_utc,
        lambda: table.seconds + timer.now_s() - begin,
        space,
        known,
        sized,
        near=[*before, *near],
        blocks=(table.block,),
    )


def _table(
    key: TableKey,
    started_utc: str,
    spent_s: Callable[[], float],
    space: PlanSpace,
    runs: Sequence[Run],
    sized: Mapping[str, LayerSizes],
    near: Sequence[Run] = (),
    blocks: Sequence[int] = BLOCKS,
) -> LatencyTable:
    fit, held_out, predicted = best_fit(runs, sized, near=near, blocks=blocks)
    dense_ns = dense_of([*runs, *near])
    plans = [run.beside(guess, dense_ns) for run, guess in zip(runs, predicted, strict=True)]
    around = [run.beside(fit.predict_ns(run.counts), dense_ns).model_copy(update={"near": True}) for run in near]
    return LatencyTable(
        key=key,
        started_utc=started_utc,
        groups=space.groups,
        blocks={block.name: block.groups for block in space.blocks},
        block=fit.block,
        base_ns=fit.base_ns,
        layers=fit.layers,
        held_out=held_out,
        plans=(*plans, *around),
        seconds=spent_s(),
    )
