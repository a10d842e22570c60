"""Describe the machine, and how busy it was during a measurement. Unreadable values are None, never guessed."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.machine.linux import control_groups, quota_cores, text, value
from benchmarks.records.measurement import Environment

__all__ = ["CpuTimes", "Watch", "cores_available", "identity"]

_PACKAGES = ("prune-deploy", "numpy", "onnx")
_IDLE = ("idle", "iowait")
_COUNTED_TWICE = ("guest", "guest_nice")  # Linux already includes them in user and nice


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time in seconds since an arbitrary start, summed over the cores.

    Parameters
    ----------
    total : float
        Time in all states.
    busy : float
        Time neither idle nor stolen.
    steal : float or None
        Time taken by the hypervisor; None if the system does not report it.
    own : float
        Time of this process and of its ended children.
    """

    total: float
    busy: float
    steal: float | None
    own: float

    @classmethod
    def now(cls) -> CpuTimes:
        """Read the system's counters."""
        times = {name: value for name, value in psutil.cpu_times()._asdict().items() if name not in _COUNTED_TWICE}
        total = sum(times.values())
        steal = times.get("steal")
        idle = sum(times.get(name, 0.0) for name in _IDLE)
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return cls(total, total - idle - (steal or 0.0), steal, mine)

    def steal_fraction(self, later: CpuTimes) -> float | None:
        """Return the share of the CPU time until `later` that the hypervisor took."""
        if self.steal is None or later.steal is None or later.total <= self.total:
            return None
        return _share((later.steal - self.steal) / (later.total - self.total))

    def busy_fraction(self, later: CpuTimes) -> float | None:
        """Return the share of the CPU time until `later` that other processes used."""
        if later.total <= self.total:
            return None
        others = (later.busy - self.busy) - (later.own - self.own)
        return _share(others / (later.total - self.total))


class Watch:
    """Observes the machine from its creation until `finish`.

    Call `finish` after the measured processes have ended and been waited for: only then does their CPU time count as
    our own.

    Parameters
    ----------
    root : Path, default="/"
        Where ``proc`` and ``sys`` are.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        self._start = CpuTimes.now()

    def finish(self, packages: Mapping[str, str] | None = None, *, gpu: bool = False) -> Environment:
        """Return the description of the machine with the observed load.

        Parameters
        ----------
        packages : Mapping of str to str
            Versions of the packages involved, besides our own.
        gpu : bool, default=False
            Whether a GPU was used and should be named.
        """
        end = CpuTimes.now()
        root = self._root
        cpuinfo = text(root / "proc/cpuinfo")
        return Environment(
            hostname_sha256=_hostname_sha256(),
            system=platform.platform(),
            cpu=_cpu(root, cpuinfo),
            cpu_cores=cores_available(root),
            memory_bytes=psutil.virtual_memory().total,
            python=platform.python_version(),
            packages={**_versions(), **(packages or {})},
            governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_average=self._load,
            steal_fraction=self._start.steal_fraction(end),
            busy_fraction=self._start.busy_fraction(end),
            gpu=_gpu(root) if gpu else None,
            driver=_driver(root) if gpu else None,
            virtual_machine=_is_virtual(cpuinfo),
        )


def identity(root: Path = Path("/")) -> str:
    """Return an identifier of this machine: the hashed host name and its processor.

    Parameters
    ----------
    root : Path, default="/"
        Where ``proc`` is.
    """
    return f"{_hostname_sha256()} {_cpu(root, text(root / 'proc/cpuinfo'))}"


def cores_available(root: Path = Path("/")) -> int:
    """Return the number of cores this process may use, given its affinity and its container's quota.

    Parameters
    ----------
    root : Path, default="/"
        Where ``proc`` and ``sys`` are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for group in control_groups(root) if (quota := quota_cores(group)) is not None]
    return max(1, min([cores, *map(int, quotas)]))


def _hostname_sha256() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()


def _cpu(root: Path, cpuinfo: str | None) -> str | None:
    return value(cpuinfo, "model name") or text(root / "proc/device-tree/model") or platform.processor() or None


def _share(value: float) -> float:
    # The counters are read at slightly different times: values just below 0 or above 1 are possible.
    return min(1.0, max(0.0, value))


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # run from an uninstalled source tree
    return versions


def _is_virtual(cpuinfo: str | None) -> bool | None:
    flags = value(cpuinfo, "flags")
    return None if flags is None else "hypervisor" in flags.split()


def _gpu(root: Path) -> str | None:
    names = [value(text(path), "Model") for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))]
    return ", ".join(name for name in names if name) or None


def _driver(root: Path) -> str | None:
    first, *_ = (text(root / "proc/driver/nvidia/version") or "").splitlines() or [""]
    return next((word for word in first.split() if word[0].isdigit() and "." in word), None)
