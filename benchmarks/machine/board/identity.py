"""Read the hardware and system of a machine as a `Board`."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.machine.board.accelerators import accelerators
from benchmarks.machine.board.caches import caches
from benchmarks.machine.board.cores import core_kinds, features, physical_cores, processors
from benchmarks.machine.board.records import Board
from benchmarks.machine.board.temperatures import temperature_files, temperatures
from benchmarks.machine.board.throttling import ThrottleReader
from benchmarks.machine.energy import EnergyMeter
from benchmarks.machine.linux import bytes_in, control_groups, memory_limit, quota_cores, text

__all__ = ["read_board"]

_PLACEHOLDERS = ("to be filled", "system product name", "default string", "not specified", "o.e.m.", "none")
_MARKS = {".dockerenv": "container (Docker)", "run/.containerenv": "container (Podman)"}
_GUESTS = ("qemu", "kvm", "vmware", "virtualbox", "hyper-v", "virtual machine", "amazon ec2", "google compute engine")
_UNLIMITED = 1 << 60
"""Control groups of version 1 report a limit beyond any memory if they have none."""


def read_board(root: Path = Path("/"), machine: str | None = None, runtimes: Mapping[str, str] | None = None) -> Board:
    """Read the description of a machine.

    Parameters
    ----------
    root : Path, default="/"
        Folder that contains ``proc``, ``sys`` and ``etc``.
    machine : str, optional
        Architecture; by default that of this machine.
    runtimes : Mapping of str to str, optional
        Versions of the runtimes installed there.
    """
    told = processors(root)
    kinds = core_kinds(root, told)
    cores = tuple(sorted(core for kind in kinds for core in kind.cores))
    facts = next(iter(told.values()), {})
    limits = [limit for group in control_groups(root, "memory") if (limit := memory_limit(group)) is not None]
    total = bytes_in(root / "proc/meminfo", "MemTotal:")
    limit = min(limits, default=_UNLIMITED)
    energy = EnergyMeter(root)
    return Board(
        model=_model(root),
        soc=_soc(root),
        # The model name of an Arm processor is only the version of its architecture.
        cpu=" and ".join(kind.name for kind in kinds) if "CPU part" in facts else facts.get("model name"),
        architecture=machine or platform.machine() or "unknown",
        kinds=kinds,
        physical_cores=physical_cores(root, cores),
        features=features(told),
        caches=caches(root, cores),
        memory_bytes=total,
        memory_limit_bytes=limit if limit < min(total or _UNLIMITED, _UNLIMITED) else None,
        quota_cores=min(_known(quota_cores(group) for group in control_groups(root)), default=None),
        system=_system(root),
        kernel=text(root / "proc/sys/kernel/osrelease"),
        within=_within(root, facts),
        temperatures=temperatures(temperature_files(root)),
        throttling=ThrottleReader(root, cores).sources,
        energy=energy.sources,
        no_energy=energy.why or "",
        accelerators=accelerators(root),
        runtimes=dict(runtimes or {}),
    )


def _model(root: Path) -> str | None:
    """Return the board's name from the device tree, else from a PC's firmware."""
    if tree := text(root / "proc/device-tree/model") or text(root / "sys/firmware/devicetree/base/model"):
        return tree
    names = [text(root / f"sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name")]
    kept = [name for name in names if name and not any(word in name.lower() for word in _PLACEHOLDERS)]
    return " ".join(dict.fromkeys(kept)) or None


def _soc(root: Path) -> str | None:
    """Return the last compatible string of the device tree: boards are listed first, the chip last."""
    read = text(root / "proc/device-tree/compatible") or text(root / "sys/firmware/devicetree/base/compatible")
    return (read or "").split("\0")[-1] or None


def _system(root: Path) -> str | None:
    for line in (text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return " ".join(shlex.split(line.partition("=")[2])) or None
    return None


def _within(root: Path, facts: Mapping[str, str]) -> tuple[str, ...]:
    found = [words for mark, words in _MARKS.items() if (root / mark).exists()]
    groups = text(root / "proc/self/cgroup") or ""
    if not found and any(word in groups for word in ("docker", "kubepods", "lxc", "containerd")):
        found.append("container")
    vendor = " ".join(text(root / f"sys/class/dmi/id/{name}") or "" for name in ("sys_vendor", "product_name")).lower()
    if "hypervisor" in facts.get("flags", "").split() or any(word in vendor for word in _GUESTS):
        found.append("virtual machine")
    return tuple(found)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
