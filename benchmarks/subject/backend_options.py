"""Check that the requested backends are usable here, and make every compile option explicit."""

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
    """Refuse unusable backends before any work is done.

    Raises
    ------
    UnknownBackendError
        There is no backend with that name.
    BackendUnavailableError
        A backend is not usable here; the message says why and what to do.
    """
    for name in names:
        registry.create(name)
        state = registry.probe(name, device)
        if not state.ok:
            raise BackendUnavailableError(f"backend {name!r} cannot run here: {state.reason}; {state.hint}")


def compile_options(
    backend: str, *, precision: str, threads: int | None, device: str | None, streams: int = 1
) -> CompileOptions:
    """Make every option explicit; device and threads default to those of the backend, or all usable cores.

    Raises
    ------
    SettingError
        More threads or streams than any machine has cores.
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
