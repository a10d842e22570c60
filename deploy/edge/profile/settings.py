"""Settings that can be tried with given files, ready to measure, and those that cannot, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from backends import registry
from backends.base import Precision
from backends.errors import BackendError, OptionError, one_line
from benchmarks.arm import PreparedArm
from benchmarks.errors import BenchmarkError, InputError
from benchmarks.machine.affinity import allowed_cores
from benchmarks.machine.board.records import Board
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import compile_options
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec
from deploy.edge.profile.points import points_of
from deploy.edge.profile.record import Point
from deploy.edge.profile.sweep import Candidate

__all__ = ["HEAVY", "Candidates", "candidates_of", "main_point", "other_backends", "without_folders"]

HEAVY = ("torch", "torch-compile")
"""Backends meant for training machines: tried only if named."""
_NOT_MEASURED = ("null", *HEAVY)
_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8")


class Candidates(NamedTuple):
    """Settings that can be tried, and why others cannot."""

    ready: tuple[Candidate, ...]
    refused: tuple[str, ...]


def other_backends(main: str) -> tuple[str, ...]:
    """Return the other backends usable here, except those meant for training machines."""
    return tuple(name for name in registry.names() if name not in (main, *_NOT_MEASURED) and registry.probe(name).ok)


def main_point(arm: PreparedArm) -> Point:
    """Return the setting of a prepared model."""
    subject = arm.subject
    return Point(
        backend=subject.backend,
        precision=subject.precision,
        threads=subject.threads,
        batch=subject.batch,
        cores=subject.cores,
    )


def candidates_of(
    arms: Sequence[PreparedArm], board: Board, backends: Sequence[str], settings: Settings, say: Callable[[str], None]
) -> Candidates:
    """Prepare every model at every setting.

    Settings that compute differently from the steady state (another backend or precision) are checked before timing.

    Parameters
    ----------
    arms : sequence of PreparedArm
        The models as they were measured, with inputs and reference answers.
    board : Board
        Board whose cores are used.
    backends : sequence of str
        Other backends to try.
    settings : Settings
        Seed, time-out, and whether answers are checked.
    say : callable
        Receives a short line when something is prepared.
    """
    main = main_point(arms[0])
    precisions, refused = _precisions(arms, main)
    points = points_of(
        main,
        board.kinds,
        allowed_cores(),
        physical=board.physical_cores,
        free_batch=all(map(_has_free_batch, arms)),
        backends=backends,
        precisions=precisions,
    )
    ready = []
    for point in points:
        try:
            ready.append(Candidate(point, tuple(_at(arm, point, main, settings, say) for arm in arms)))
        except (BackendError, BenchmarkError) as error:
            refused.append(f"{point.title}: {without_folders(one_line(error), arms)}")
    return Candidates(tuple(ready), tuple(refused))


def without_folders(words: str, arms: Sequence[PreparedArm]) -> str:
    """Return a message with folders removed from model names: profiles get shared."""
    for arm in arms:
        for path in (arm.spec.model.resolve(), arm.spec.model):
            words = words.replace(str(path), path.name)
    return words


def _precisions(arms: Sequence[PreparedArm], main: Point) -> tuple[list[str], list[str]]:
    """Return the other precisions that the backend supports for these files, and why not the rest."""
    backend = registry.create(main.backend)
    kept: list[str] = []
    reasons: dict[str, str] = {}
    for precision in _PRECISIONS:
        if precision == main.precision:
            continue
        try:
            for arm in arms:
                backend.require_precision(arm.spec.model, precision)
        except OptionError as error:
            reasons[precision] = without_folders(one_line(error), arms)
        else:
            kept.append(precision)
    if not reasons:
        return kept, []
    return kept, [f"{main.backend} {', '.join(reasons)}: {next(iter(reasons.values()))}"]


def _has_free_batch(arm: PreparedArm) -> bool:
    """Return whether the batch of a file can be chosen; given inputs fix it."""
    if arm.spec.given or not arm.sizes.batched:
        return False
    try:
        sizes = resolve_sizes(model_specs(arm.spec.model), batch=arm.sizes.batch + 1, shapes=arm.spec.shapes)
    except InputError:
        return False
    return sizes.batch != arm.sizes.batch


def _at(arm: PreparedArm, point: Point, main: Point, settings: Settings, say: Callable[[str], None]) -> PreparedArm:
    """Prepare a model at another setting."""
    same_work = (point.backend, point.precision) == (main.backend, main.precision)
    options = compile_options(
        point.backend,
        precision=point.precision,
        threads=point.threads,
        device=arm.spec.options.device if point.backend == main.backend else None,
    )
    spec: SubjectSpec = replace(arm.spec, backend=point.backend, options=options, batch=point.batch, cores=point.cores)
    checked = settings.check and not same_work
    known = arm.references[0] if checked and arm.references and point.batch == main.batch else None
    # A reference brings its own inputs: those of the steady state.
    feeds = arm.feeds if known is None and point.batch == main.batch else None
    return PreparedArm.prepare(spec, feeds, known, replace(settings, check=checked), say)
