"""Facts about the machine that measured, as names and values."""

from __future__ import annotations

from benchmarks.records.measurement import Environment
from deploy.report.formatting import percent, size

__all__ = ["machine_facts"]


def machine_facts(seen: Environment) -> list[tuple[str, str]]:
    """Return names and values; what could not be read is given as unknown."""
    facts: list[tuple[str, str | None]] = [
        ("processor", seen.cpu),
        ("cores usable", str(seen.cpu_cores)),
        ("memory", size(seen.memory_bytes)),
        ("GPU", None if seen.gpu is None else f"{seen.gpu}{', driver ' if seen.driver else ''}{seen.driver or ''}"),
        ("system", seen.system),
        ("virtual machine", None if seen.virtual_machine is None else ("yes" if seen.virtual_machine else "no")),
        ("frequency governor", seen.governor),
        ("load at the start", None if seen.load_average is None else f"{seen.load_average:.2f} (1 minute)"),
        ("used by others", None if seen.busy_fraction is None else percent(seen.busy_fraction)),
        ("taken by hypervisor", None if seen.steal_fraction is None else percent(seen.steal_fraction)),
        ("Python", seen.python),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(seen.packages.items())) or None),
    ]
    return [(name, "unknown" if value is None else value) for name, value in facts if name != "GPU" or value]
