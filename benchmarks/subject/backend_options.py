"""The backends a user names: usable here at all, and with every option made explicit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from backends import registry
from backends.base import CompileOptions, Precision
from backends.errors import BackendUnavailableError
from benchmarks.errors import SettingError
from benchmarks.machine.environment import cores_available

__all__ = ["compile_options", "require_backends"]

_MOST_THREADS = 4096


def require_backends(names: Iterable[str], device: str | None) -> None:
    """Refuse before any work what could not be measured in the end.

    Raises
    ------
    UnknownBackendError
        There is no backend of that name.
    BackendUnavailableError
        It is not usable here; the message says why and what to do.
    """
    for name in names:
        registry.create(name)
        state = registry.probe(name, device)
        if not state.ok:
            raise BackendUnavailableError(f"backend {name!r} cannot run here: {state.reason}; {state.hint}")


def compile_options(
    backend: str, *, precision: str, threads: int | None, device: str | None, streams: int = 1
) -> CompileOptions:
    """Make every option explicit: the backend's own device, and all usable cores, where nothing is said.

    Raises
    ------
    SettingError
        So many threads or streams as no machine has cores.
    """
    for option, asked in (("--threads", threads or 1), ("--streams", streams)):
        if asked > _MOST_THREADS:
            raise SettingError(f"{option} {asked}: at most {_MOST_THREADS:,} are started")
    known = registry.create(backend)
    return CompileOptions(
        precision=cast("Precision", precision),
        threads=threads or known.default_threads or cores_available(),
        device=device or known.default_device,
        streams=streams,
    )
