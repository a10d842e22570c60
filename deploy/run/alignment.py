"""Warn of what a FLOPs target risks on runtimes that compute channels in blocks. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from backends import registry
from deploy.recipe import Bench, Prune
from pruners.registry import method_class

__all__ = ["alignment_risk"]

_ALIGNED = 8
"""Channels in a vector of 256 bits of fp32: the smallest block of CPU runtimes."""


def alignment_risk(sections: Sequence[Prune], bench: Bench, key: str = "target") -> str:
    """Return a warning about unaligned counts, and what to write instead; empty if there is no risk.

    Parameters
    ----------
    sections : sequence of Prune
        How networks are pruned. The warning is about the first whose target is a share of FLOPs and whose counts are
        free.
    bench : Bench
        Where they are measured.
    key : str, default="target"
        What a recipe calls the target.
    """
    named = [name for name in bench.backends if _blocks(name, bench.device)]
    for prune in sections if named else ():
        kept = prune.target.flops or prune.target.macs
        if kept is not None and prune.multiple_of in (1, "auto") and method_class(prune.method).removes == "channels":
            what = "FLOPs" if prune.target.flops is not None else "MACs"
            instead = f"{{speed_up: {1 / kept:.3g}, on: {named[0]}}}"
            return (
                f"{100 * kept:g} % of the {what} with odd channel counts can run slower than the dense network on "
                f"{' and '.join(named)}; write {key}: {instead if key == 'target' else f'[{instead}]'}, or "
                f"multiple_of: {_ALIGNED}"
            )
    return ""


def _blocks(backend: str, device: str | None) -> bool:
    known = registry.create(backend)
    return known.blocks_channels and (device or known.default_device) == "cpu"
