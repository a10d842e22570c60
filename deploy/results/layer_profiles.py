"""Profile models layer by layer over a grid of backends and options: the work of ``deploy layers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.layers.comparison import LayerComparison, compare_layers, other_widths
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.layers.profiler import profile_in_turn, same_nodes
from benchmarks.machine.lock import machine_lock
from benchmarks.subject.backend_options import require_backends
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.block import KnownBlock, known_block
from deploy.results.bench_grid import Grid, saying_for

__all__ = ["Profiled", "profile_models"]

Say = Callable[[str], None]


class Profiled(NamedTuple):
    """One point of a grid: the profiles, the baseline's first, and their comparison if there are two."""

    profiles: tuple[LayerProfile, ...]
    pair: LayerComparison | None


def profile_models(
    models: Mapping[str, Path], grid: Grid, *, duration_s: float, seed: int, say: Say
) -> Iterator[Profiled]:
    """Profile one model, or two in turn, at every point of a grid.

    Parameters
    ----------
    models : Mapping of str to Path
        One or two ONNX files by label, the baseline first.
    grid : Grid
        The grid.
    duration_s : float
        Approximate profiling time in seconds.
    seed : int
        Seed of generated inputs.
    say : callable
        Called with one short line for each step.

    Raises
    ------
    BackendError, BenchmarkError
        A file is broken, a backend is not usable here, or an option makes no sense.
    """
    require_backends(grid.backends, grid.device)
    for path in models.values():
        specs_of_file = model_specs(path)  # detects a broken file now
        resolve_sizes(specs_of_file, shapes=grid.given.shapes(specs_of_file.inputs, grid.shapes))
    *_, measured = models.values()
    for specs in grid.specs(models):
        tell = saying_for(specs[0].backend, say)
        with machine_lock(f"deploy layers {measured}", say=say):
            profiles = tuple(profile_in_turn(specs, budget_s=duration_s, seed=seed, progress=tell))
        yield Profiled(profiles, _compared(specs, profiles, seed, tell) if len(models) > 1 else None)


def _compared(
    specs: Sequence[SubjectSpec], profiles: Sequence[LayerProfile], seed: int, tell: Callable[[str], None]
) -> LayerComparison:
    """Compare the second model with the first, by the channel block of the runtime if channel counts differ."""
    block = KnownBlock(None, "unknown")
    if other_widths(profiles[1], profiles[0]):
        block = known_block(specs[0], seed=seed, say=tell)
    if block.why:
        tell(f"the number of channels computed together is not known: {block.why}")
    same = same_nodes(specs[1], specs[0])
    return compare_layers(profiles[1], profiles[0], same, block=block.size, block_from=block.source)
