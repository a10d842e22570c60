"""CPU cores of a machine, grouped by kind (performance, efficient, ...)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.errors import SettingError
from benchmarks.machine.affinity import parse_cores
from benchmarks.machine.board.parts import design
from benchmarks.machine.board.records import CoreKind, Role
from benchmarks.machine.linux import number, text

__all__ = ["core_kinds", "cores_listed", "features", "physical_cores", "processors"]

_CPUS = "sys/devices/system/cpu"
_HYBRID: tuple[tuple[str, str, Role], ...] = (
    ("cpu_core", "performance core", "performance"),
    ("cpu_atom", "efficient core", "efficient"),
    ("cpu_lowpower", "low-power core", "low power"),
)
"""Intel's kinds, by the kernel's performance counters for each."""
_ALIKE = 0.8
"""Share of the highest capacity down to which cores of one design count as one kind."""
_AMD = "AuthenticAMD"
_AMD_KINDS: tuple[tuple[str, Role], ...] = (
    ("performance core", "performance"),
    ("dense core", "efficient"),
    ("low-power core", "low power"),
)
"""AMD's kinds, the strongest first: Zen 5 and Zen 5c. All cores of a processor have the same instructions."""
_AMD_MEASURES = (
    ("acpi_cppc/highest_perf", "a gap in the highest performance of the cores (acpi_cppc); the kernel names no kinds"),
    ("cpufreq/cpuinfo_max_freq", "a gap in the highest clock of the cores; the kernel names no kinds"),
)
_GAP = 0.85
"""Ratio of two neighbours in performance order below which they are of different kinds. Preferred cores range evenly
from 236 down to 166, a few percent from one to the next; Zen 5c has 125 where Zen 5 ends at 196."""
_FEATURES = (
    *("sse4_2", "avx", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("avx_vnni_int8", "amx_tile", "amx_int8", "amx_bf16"),
    *("neon", "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme"),
)


def processors(root: Path) -> dict[int, dict[str, str]]:
    """Read the entries of ``/proc/cpuinfo`` by logical core; empty if it lists none."""
    found: dict[int, dict[str, str]] = {}
    facts: dict[str, str] = {}
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            facts = {}
        elif key == "processor" and value.isdigit():
            facts = found[int(value)] = {}
        else:
            facts[key] = value
    return found


def features(told: Mapping[int, Mapping[str, str]]) -> tuple[str, ...]:
    """List the vector instruction sets that every core has and runtimes use.

    Parameters
    ----------
    told : Mapping
        Entries of each core, see `processors`.
    """
    each = [set((facts.get("flags") or facts.get("Features") or "").split()) for facts in told.values()]
    common = set.intersection(*each) if each else set()
    return tuple(name for name in _FEATURES if name in common)


def cores_listed(path: Path) -> tuple[int, ...]:
    """Read a list of cores such as ``0-3,8``; empty if there is none."""
    read = text(path)
    if not read:
        return ()
    try:
        return parse_cores(read)
    except SettingError:
        return ()


def physical_cores(root: Path, cores: Sequence[int]) -> int | None:
    """Count the physical cores among logical ones; None if the system does not report which share one."""
    siblings = [
        cores_listed(root / _CPUS / f"cpu{core}/topology/core_cpus_list")
        or cores_listed(root / _CPUS / f"cpu{core}/topology/thread_siblings_list")
        for core in cores
    ]
    return len(set(siblings)) if siblings and all(siblings) else None


def core_kinds(root: Path, told: Mapping[int, Mapping[str, str]]) -> tuple[CoreKind, ...]:
    """Group the online cores by kind, the strongest first.

    Intel's kinds are identified by the kernel's counters, Arm's by part numbers, and cores of one design by the
    scheduler's capacity. AMD's are not identified by anything that every user may read, so a wide gap in the
    performance that the firmware gives for each core is used instead. Clocks alone do not define kinds: on many
    processors every core has a different highest clock.

    Parameters
    ----------
    root : Path
        Folder that contains ``sys``.
    told : Mapping
        Entries of each core, see `processors`.
    """
    online = cores_listed(root / _CPUS / "online") or tuple(sorted(told))
    hybrid = [(name, role, cores_listed(root / f"sys/devices/{folder}/cpus")) for folder, name, role in _HYBRID]
    if sum(bool(cores) for _, _, cores in hybrid) > 1:
        lists = [(name, role, [core for core in cores if core in online]) for name, role, cores in hybrid]
        return tuple(
            _kind(root, cores, name, role, "the kernel's counters for each kind")
            for name, role, cores in lists
            if cores
        )
    capacity = {core: number(root / _CPUS / f"cpu{core}/cpu_capacity") for core in online}
    parts = {core: _part(told.get(core, {})) for core in online}
    key: Callable[[int], object] = parts.__getitem__
    if len(set(parts.values())) == 1:
        key = _steps(capacity).__getitem__
    groups: dict[object, list[int]] = defaultdict(list)
    for core in online:
        groups[key(core)].append(core)
    if len(groups) == 1 and (kinds := _amd_kinds(root, online, told)):
        return kinds
    return _ranked([_kind(root, cores, parts[cores[0]], None, "") for cores in groups.values()])


def _amd_kinds(root: Path, cores: Sequence[int], told: Mapping[int, Mapping[str, str]]) -> tuple[CoreKind, ...]:
    """Split the cores of an AMD processor at gaps in their performance; empty if there is none or it is unknown."""
    if any(told.get(core, {}).get("vendor_id") != _AMD for core in cores):
        return ()
    for file, role_from in _AMD_MEASURES:
        known = {core: found for core in cores if (found := number(root / _CPUS / f"cpu{core}" / file))}
        if len(known) == len(cores) and 1 < len(parts := _parted(known)) <= len(_AMD_KINDS):
            return tuple(
                _kind(root, part, name, role, role_from) for part, (name, role) in zip(parts, _AMD_KINDS, strict=False)
            )
    return ()


def _parted(measures: Mapping[int, int]) -> list[list[int]]:
    """Sort cores by decreasing measure and start a new list at each gap."""
    parts: list[list[int]] = []
    before = None
    for core, value in sorted(measures.items(), key=lambda one: (-one[1], one[0])):
        if before is None or value < _GAP * before:
            parts.append([])
        parts[-1].append(core)
        before = value
    return [sorted(part) for part in parts]


def _steps(capacity: Mapping[int, int | None]) -> dict[int, int]:
    """Group cores of one design by capacity; favoured cores, slightly faster than the rest, are not a separate step."""
    steps: dict[int, int] = {}
    highest = None
    for core, value in sorted(capacity.items(), key=lambda one: -(one[1] or 0)):
        if highest is None or (value or 0) < _ALIKE * highest:
            highest = value or 0
        steps[core] = highest
    return steps


def _ranked(kinds: Sequence[CoreKind]) -> tuple[CoreKind, ...]:
    """Order kinds by the scheduler's capacity, else by their highest clock, and assign their roles."""
    if len(kinds) < 2:
        return tuple(kinds)
    for source, measures in (
        ("the scheduler's capacity", [kind.capacity for kind in kinds]),
        ("the highest clock", [kind.max_khz for kind in kinds]),
    ):
        known = [measure for measure in measures if measure is not None]
        if len(set(known)) == len(kinds):
            ordered = [kind for _, kind in sorted(zip(known, kinds, strict=True), key=lambda pair: -pair[0])]
            roles: list[Role] = ["big", *["middle"] * (len(kinds) - 2), "little"]  # type: ignore[list-item]
            return tuple(
                kind.model_copy(update={"role": role, "role_from": source})
                for kind, role in zip(ordered, roles, strict=True)
            )
    return tuple(kinds)


def _kind(root: Path, cores: Sequence[int], name: str, role: Role | None, role_from: str) -> CoreKind:
    folders = [root / _CPUS / f"cpu{core}" for core in cores]
    lows = [khz for folder in folders if (khz := number(folder / "cpufreq/cpuinfo_min_freq"))]
    highs = [khz for folder in folders if (khz := number(folder / "cpufreq/cpuinfo_max_freq"))]
    now = [khz for folder in folders if (khz := number(folder / "cpufreq/scaling_cur_freq"))]
    governors = dict.fromkeys(filter(None, (text(folder / "cpufreq/scaling_governor") for folder in folders)))
    return CoreKind(
        name=name,
        role=role,
        role_from=role_from,
        cores=tuple(cores),
        capacity=max((found for folder in folders if (found := number(folder / "cpu_capacity"))), default=None),
        min_khz=min(lows, default=None),
        max_khz=max(highs, default=None),
        now_khz=max(now, default=None),
        governor=", ".join(governors) or None,
    )


def _part(facts: Mapping[str, str]) -> str:
    if "CPU part" in facts:
        return design(facts.get("CPU implementer", ""), facts["CPU part"])
    return facts.get("model name") or "core"
