"""Settings to try, most informative first, as there may not be time for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.machine.board.records import CoreKind
from deploy.edge.profile.record import Point

__all__ = ["points_of"]

_BATCHES = (1, 2, 4, 8)


def points_of(
    main: Point,
    kinds: Sequence[CoreKind],
    usable: Sequence[int],
    *,
    physical: int | None,
    free_batch: bool,
    backends: Sequence[str],
    precisions: Sequence[str],
) -> tuple[Point, ...]:
    """List settings, each once: `main`, then other threads, kinds of cores, batches, backends, precisions.

    Parameters
    ----------
    main : Point
        Setting of the steady state; comes first.
    kinds : sequence of CoreKind
        Kinds of cores of the board.
    usable : sequence of int
        Logical cores that this process may use.
    physical : int or None
        Number of physical cores.
    free_batch : bool
        Whether the file leaves the batch open.
    backends, precisions : sequence of str
        Backends and precisions other than those of `main`.
    """
    listed = [main, *_threads(main, len(usable), physical), *_kinds(main, kinds, usable)]
    if free_batch:
        listed += [main.model_copy(update={"batch": batch}) for batch in _BATCHES if batch != main.batch]
    listed += [main.model_copy(update={"backend": name}) for name in backends if name != main.backend]
    listed += [main.model_copy(update={"precision": name}) for name in precisions if name != main.precision]
    return tuple({point.model_dump_json(): point for point in listed}.values())


def _threads(main: Point, usable: int, physical: int | None) -> Iterator[Point]:
    """Yield thread counts: 1, all cores it may use, the physical cores, and the powers of two below."""
    if main.cores is not None:
        usable = len(main.cores)
    wanted = {1, usable} | {1 << power for power in range(usable.bit_length()) if 1 << power < usable}
    if physical is not None and physical < usable:
        wanted.add(physical)
    for number in sorted(wanted, key=lambda number: (number != 1, -number)):
        yield main.model_copy(update={"threads": number})


def _kinds(main: Point, kinds: Sequence[CoreKind], usable: Sequence[int]) -> Iterator[Point]:
    """Yield all cores of each kind, and a single core of it."""
    if len(kinds) < 2 or main.cores is not None:
        return
    for kind in kinds:
        cores = tuple(core for core in kind.cores if core in usable)
        for bound in (cores, cores[:1]):
            if bound:
                yield main.model_copy(update={"threads": len(bound), "cores": bound, "on": kind.title})
