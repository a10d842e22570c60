"""The command that tells why a pruned network is not as fast as its MACs promise."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from backends import registry

__all__ = ["explain_command", "shape_options"]


def explain_command(
    pruned: str,
    dense: str,
    *,
    backend: str,
    threads: int | None,
    precision: str,
    device: str,
    batch: int | None,
    shapes: Mapping[str, Sequence[int]],
    inputs: str | None = None,
) -> str:
    """Write the ``deploy explain`` command for two files as they were measured, without options that say the default.

    Parameters
    ----------
    pruned, dense : str
        Paths as typed; `dense` may be ``git:REF:PATH``.
    backend, threads, precision, device, batch, shapes
        How they were measured; None: the default.
    inputs : str, optional
        Path of the file with given inputs.

    Returns
    -------
    str
        Empty if the backend cannot be profiled by layer, or is not known here.
    """
    if backend not in registry.names():
        return ""
    known = registry.create(backend)
    if known.why_no_layers:
        return ""
    options: list[str] = ["--backend", backend]
    for option, value, default in (
        ("--threads", threads, None),
        ("--precision", precision, "fp32"),
        ("--device", device, known.default_device),
        ("--batch", batch, None),
        ("--inputs", inputs, None),
    ):
        options += [] if value == default else [option, str(value)]
    return shlex.join(["deploy", "explain", pruned, "--against", dense, *options, *shape_options(shapes)])


def shape_options(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Write the options that give inputs their shapes."""
    return [part for name, sizes in shapes.items() for part in ("--shape", f"{name}={','.join(map(str, sizes))}")]
