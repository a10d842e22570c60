"""Registry of backends: a table of the built-in ones, entry points (group ``prune_deploy.backends``) for others."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from backends.base import Availability, Backend
from backends.errors import BackendError, UnknownBackendError, did_you_mean

__all__ = ["ENTRY_POINT_GROUP", "create", "names", "probe"]

ENTRY_POINT_GROUP = "prune_deploy.backends"

_BUILT_IN = {
    "ort": "backends.ort:OrtBackend",
    "openvino": "backends.ov:OpenVinoBackend",
    "torch": "backends.pytorch:TorchBackend",
    "torch-compile": "backends.pytorch:TorchCompileBackend",
    "trt": "backends.trt:TrtBackend",
    "null": "backends.null:NullBackend",
}


def _table() -> dict[str, str]:
    table = dict(_BUILT_IN)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name in table:
            raise BackendError(f"backend {point.name!r} is registered twice: {table[point.name]} and {point.value}")
        table[point.name] = point.value
    return table


def names() -> tuple[str, ...]:
    """List the registered backends, built-in ones first."""
    return tuple(_table())


def create(name: str) -> Backend:
    """Return the backend called `name`; its runtime is not imported yet.

    Raises
    ------
    UnknownBackendError
        There is no such backend; the message names the closest one.
    """
    table = _table()
    if name not in table:
        meant = did_you_mean(name, table)
        raise UnknownBackendError(f"unknown backend {name!r}{meant} (there are: {', '.join(table)})")
    module, _, attribute = table[name].partition(":")
    backend = getattr(import_module(module), attribute)()
    if not isinstance(backend, Backend):
        raise BackendError(f"backend {name!r}: {table[name]} is not a Backend")
    return backend


def probe(name: str, device: str | None = None) -> Availability:
    """Return whether `name` is usable on `device`, by default its default device.

    A backend that cannot even be imported is reported as unavailable, with the reason.
    """
    try:
        backend = create(name)
    except (ImportError, AttributeError) as error:
        return Availability(ok=False, reason=f"{type(error).__name__}: {error}", hint="reinstall its package")
    return backend.availability(device or backend.default_device)
