"""Which machine numbers come from, as far as they may be compared over weeks."""

from __future__ import annotations

import hashlib
import json

from benchmarks.records.measurement import Environment

__all__ = ["hardware_fingerprint"]


def hardware_fingerprint(environment: Environment) -> str:
    """Return a short hash of the hardware and the family of the operating system.

    Versions are left out, of the kernel and of packages: they change every few weeks, and whether a new runtime is
    slower is what a history is asked. `benchmarks.machine.noise_floor.fingerprint` holds them too.
    """
    stable = {
        "cpu": environment.cpu,
        "cpu_cores": environment.cpu_cores,
        "memory": round(environment.memory_bytes / 2**28),  # a new kernel keeps a few megabytes more or less
        "system": environment.system.replace("-", " ").partition(" ")[0],
        "gpu": environment.gpu,
    }
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:16]
