"""``deploy explain``: explain why the latency of a pruned network did not follow its MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.errors import InputError, NotComparableError, RecordError, SettingError, WorkerError
from benchmarks.layers.aligned_plan import AlignedPlan
from benchmarks.layers.explanation import explain as explained
from benchmarks.layers.profiler import profile_in_turn, same_nodes
from benchmarks.layers.roofline import measure_layer_overhead
from benchmarks.machine.lock import machine_lock
from benchmarks.subject.backend_options import require_backends
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.aligned import aligned_plans, kept_counts, why_whole
from benchmarks.tables.block import KnownBlock, measured_block
from benchmarks.tables.build import tables_kept_for
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from benchmarks.tables.timer import Say
from deploy.bundles.bundle import bundle_of
from deploy.ci.baseline import GIT, baseline_of
from deploy.cli import options as given
from deploy.cli.measure.options import Feeds
from deploy.cli.output import print_answer, print_json, print_tables, tell
from deploy.files.atomic import require_writable, write_file
from deploy.report.explanation import answer, explanation_page, explanation_tables
from deploy.results.bench_grid import Grid, label_models, saying_for
from deploy.sources.boundary import missing
from deploy.tables.kept_spaces import space_of_table
from prune_deploy import how_to_install

__all__ = ["explain"]

_NONE_KEPT = "none are kept for this network on this machine"


def explain(
    pruned: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The pruned network: ONNX file, or the folder of a bundle.")
    ],
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="BASELINE",
            help="ONNX file or bundle to compare MODEL with, or git:REF or git:REF:PATH, as it was at a commit.",
        ),
    ],
    backend: given.Backend = "ort",
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batch = None,
    *,
    feeds: Feeds,
    plan_space: Annotated[
        Path | None,
        typer.Option(
            "--plan-space", help="Plan space of the dense file; needs --table. Default: one kept on this machine."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table", help="Latency table of the dense file; needs --plan-space. Default: one kept on this machine."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Measure the aligned plans in turn with the dense network.")
    ] = False,
    duration: given.Duration = 2.0,
    top: Annotated[int, typer.Option(min=0, help="Layers to list, the most lost time first; 0: all.")] = 20,
    seed: given.Seed = 0,
    page: given.PageFile = None,
    json: given.Json = False,
) -> None:
    """Explain why the latency of MODEL did not follow its MACs, by layer and overall, and what to do about it."""
    if page is not None:
        require_writable(page)
    if (plan_space is None) != (table is None):
        raise InputError("--plan-space and --table are given together: one says what the other was measured for")
    given_tables = (
        None if plan_space is None or table is None else (PlanSpace.load(plan_space), LatencyTable.load(table))
    )
    require_backends([backend], device)
    grid = Grid(backends=[backend], precision=precision, device=device, threads=(threads,), batches=(batch,))
    ((dense_spec, pruned_spec),) = feeds.into(grid).specs(label_models(pruned, _baseline(against, pruned)))
    same = same_nodes(pruned_spec, dense_spec)  # fails on a broken file before anything is profiled
    notes = _of_bundle(pruned_spec)
    step = saying_for(backend, tell)
    kept: Sequence[tuple[Path, LatencyTable]] = ()
    if given_tables is not None:
        counts = kept_counts(given_tables[0], dense_spec.model, pruned_spec.model, same)
        known: _Known | None = _Known(*given_tables, counts, str(table))
    else:
        kept, other = tables_kept_for(dense_spec, say=step)
        known, reason = _fitting(kept, dense_spec, pruned_spec, same, step)
        if known is None and (reason := reason or other):
            notes.append(f"no aligned plans are predicted: {reason}")
        if verify and known is None:
            raise InputError(f"--verify measures aligned plans: give --plan-space and --table ({reason or _NONE_KEPT})")
    plans = () if known is None else _plans(dense_spec, known, verify=verify, seed=seed, notes=notes, say=step)
    with machine_lock(f"deploy explain {pruned}", say=tell):
        profiles = profile_in_turn((dense_spec, pruned_spec), budget_s=duration, seed=seed, progress=step)
        overhead_ns = _layer_overhead(dense_spec, notes)
    tables = [table for _, table in kept] if known is None else [known.table]
    block = KnownBlock(tables[0].block, "table") if tables else measured_block(dense_spec, seed=seed, say=step)
    if block.why:
        notes.append(f"the number of channels computed together is not known: {block.why}")
    found = explained(
        profiles[1],
        profiles[0],
        same,
        block=block.size,
        block_from=block.source,
        layer_overhead_ns=overhead_ns,
        whole={} if known is None else why_whole(dense_spec.model, known.space, known.counts),
        notes=notes,
    ).model_copy(update={"plans": plans})
    if page is not None:
        write_file(page, explanation_page(found))
    if json:
        print_json(found.model_dump_json(indent=1))
    else:
        print_answer(answer(found))
        print_tables(*explanation_tables(found, top or None))


def _baseline(against: str, model: Path) -> Path:
    return baseline_of(Path(), against, str(model), "--against") if against.startswith(GIT) else Path(against)


class _Known(NamedTuple):
    """What is known of a dense network before it is profiled, and the counts of the pruned one."""

    space: PlanSpace
    table: LatencyTable
    counts: dict[str, int]
    where: str


def _fitting(
    tables: Sequence[tuple[Path, LatencyTable]],
    dense: SubjectSpec,
    pruned: SubjectSpec,
    same: Mapping[str, str],
    say: Say,
) -> tuple[_Known | None, str]:
    """Return the newest of the kept tables whose plan space is kept and has both networks, or why there is none."""
    absent = misfit = ""
    for path, table in tables:
        if (space := space_of_table(table, dense.model)) is None:
            absent = absent or f"the plan space of {path} is not kept"
            continue
        try:
            counts = kept_counts(space, dense.model, pruned.model, same)
        except (NotComparableError, RecordError, SettingError) as error:
            misfit = misfit or str(error)
        else:
            say(f"the latency table kept for the dense network is used: {path}")
            return _Known(space, table, counts, str(path)), ""
    return None, misfit or absent


def _plans(
    dense: SubjectSpec, known: _Known, *, verify: bool, seed: int, notes: list[str], say: Say
) -> tuple[AlignedPlan, ...]:
    """Predict the plans whose counts fill the blocks; a note says why the best one is not known, or does not exist."""
    best = None
    if absent := missing("scipy"):
        notes.append(f"the best aligned plan is not known: {absent[0]} is not installed: {how_to_install('prune')}")
    else:
        from deploy.tables.best_aligned import best_aligned

        gone = [block.name for block in known.space.blocks if not known.counts[block.name]]
        best = partial(best_aligned, known.space, known.table, blocks=gone, say=notes.append)
    plans = aligned_plans(
        dense,
        known.space,
        known.table,
        known.counts,
        where=known.where,
        verify=verify,
        best=best,
        seed=seed,
        progress=say,
    )
    if best is not None and plans[0].macs_share is None:
        notes.append("the best aligned plan is not known, because not all MACs are, and they set its time limit")
    return plans


def _layer_overhead(spec: SubjectSpec, notes: list[str]) -> float | None:
    """Measure the overhead of a layer; None, with a note, if the backend cannot measure the small network."""
    try:
        return measure_layer_overhead(spec.backend, spec.options)
    except WorkerError as error:
        why = "the layers are shorter than its clock resolves" if error.kind == "OptionError" else str(error)
        notes.append(f"the shortest layer is not known: {why}")
        return None


def _of_bundle(spec: SubjectSpec) -> list[str]:
    """Return what the bundle of a pruned network says about layers that were left whole."""
    bundle = bundle_of(spec.model)
    proof = None if bundle is None or bundle.pruning is None else bundle.pruning.proof
    texts = () if proof is None else (proof.left_whole, proof.unranked)
    return [f"left whole, according to the bundle: {text}" for text in texts if text]
