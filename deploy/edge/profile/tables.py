"""Tables of a profile, the same in the terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.layers.comparison import LayerReport
from benchmarks.layers.layer_profile import LayerProfile
from deploy.edge.profile.choice import Choice, Setting, choose, settings_of
from deploy.edge.profile.headline import labels, millijoules, net_energy_uj, share, short_point
from deploy.edge.profile.identity import board_table, clock
from deploy.edge.profile.record import Cooling, Profile, Second
from deploy.edge.profile.steadiness import Steadiness, steadiness
from deploy.report.formatting import NOTHING, duration, percent, rate, size
from deploy.report.layer_tables import comparison_tables
from deploy.report.layer_tables import profile_tables as layer_tables
from deploy.report.table import Table, left
from deploy.report.tables import tables_by_name

__all__ = ["absent_table", "key_tables", "profile_tables", "seconds_tables", "settings_table"]

_LAYERS = 10
_BEST = {"latency": "FASTEST", "throughput": "MOST", "efficient": "memory front", "frugal": "energy front"}


def profile_tables(profile: Profile) -> tuple[Table, ...]:
    """Derive all tables; those without rows are left out."""
    return (*key_tables(profile), *_steady_tables(profile), *seconds_tables(profile), *_all_layers(profile))


def key_tables(profile: Profile) -> tuple[Table, ...]:
    """Derive the tables that fit on a printed page; those without rows are left out."""
    derived = [
        board_table(profile.board),
        _cold_table(profile),
        _sustained_table(profile),
        settings_table(profile),
        _costs_table(profile),
        *_peak_tables(profile),
        *_hot_tables(profile),
        _cooling_table(profile),
        absent_table(profile),
    ]
    return tuple(table for table in derived if table.rows)


def absent_table(profile: Profile) -> Table:
    """Return the table of missing parts, and why."""
    rows: list[tuple[str, str]] = [(one.part, one.why) for one in profile.absent]
    rows += [(f"setting: {title}", "the budget had no room for it") for title in profile.left_out]
    rows += [("setting", why) for why in profile.refused]
    rows += [(f"setting: {one.label}, {one.point.title}", one.failure) for one in profile.sweep if one.failure]
    rows += [(f"of the board: {name}", "not told by this machine") for name in profile.board.untold if name != "energy"]
    return Table("What is not there", left("part", "why"), tuple(rows))


def _steady_tables(profile: Profile) -> tuple[Table, ...]:
    derived = tables_by_name(profile.results)
    return tuple(
        derived[name] for name in ("bought", "latency", "starting", "memory", "paper", "answers") if name in derived
    )


def _cold_table(profile: Profile) -> Table:
    rows = []
    for label in labels(profile):
        starts = [start for start in profile.cold if start.label == label]
        if starts:
            steps = ("process_ns", "import_ns", "load_ns", "first_run_ns", "total_ns")
            values = (median(getattr(start, step) for start in starts) for step in steps)
            rows.append((label, *map(duration, values), str(len(starts))))
    return Table(
        "From nothing to the first answer",
        (*left("model"), "process", "import", "load", "first call", "in all", "starts"),
        tuple(rows),
        caption="Medians over fresh processes; the files are in the system's memory by then. Process: Python, our "
        "measuring half, and the inputs.",
    )


def _sustained_table(profile: Profile) -> Table:
    loads = {load.label: steadiness(load, profile.board) for load in profile.sustained}
    told = {name: [cell(profile, load) for load in loads.values()] for name, cell in _SUSTAINED.items()}
    rows = [(name, *cells) for name, cells in told.items() if any(cell != NOTHING for cell in cells)]
    return Table(
        "Under load without a pause",
        (*left(""), *loads),
        tuple(rows),
        caption="Burst: the first 5 seconds, or a third of a shorter load. Sustained: the last third.",
    )


_SUSTAINED: dict[str, Callable[[Profile, Steadiness], str]] = {
    "lasted": lambda _, load: f"{load.lasted_s:.0f} s",
    "calls": lambda _, load: str(load.calls),
    "burst, median call": lambda _, load: duration(load.burst_ns),
    "sustained, median call": lambda _, load: duration(load.sustained_ns),
    "sustained speed / burst": lambda _, load: share(load),
    "throttling": lambda _, load: _throttling(load),
    "slowed itself down": lambda _, load: NOTHING if load.events is None else f"{load.events} times",
    "temperature at rest": lambda _, load: _celsius(load.start_celsius),
    "highest temperature": lambda _, load: _celsius(load.highest_celsius),
    "temperature in the end": lambda _, load: _celsius(load.end_celsius),
    "power in the end": lambda _, load: NOTHING if load.watts is None else f"{load.watts:.2f} W",
    "energy of a call, gross": lambda _, load: NOTHING if load.energy_uj is None else millijoules(load.energy_uj),
    "energy of a call, above rest": lambda profile, load: _net(profile, load),
}


def _throttling(load: Steadiness) -> str:
    if load.throttling is not None:
        return f"after {load.throttling.after_s:.0f} s: {load.throttling.words}"
    return "none seen" if load.tells_clock else "not told"


def _celsius(celsius: float | None) -> str:
    return NOTHING if celsius is None else f"{celsius:.1f} C"


def _net(profile: Profile, load: Steadiness) -> str:
    if load.energy_uj is None or profile.idle_watts is None:
        return NOTHING
    return millijoules(net_energy_uj(load, profile.idle_watts))


def settings_table(profile: Profile) -> Table:
    """Compare the settings, with the models side by side and the best marked."""
    if not profile.sweep:
        return Table("Settings", left("setting"), ())
    names = labels(profile)
    each = {label: {one.point: one for one in settings_of(profile.sweep, label)} for label in names}
    main, last = profile.sweep[0].point, names[-1]
    choice = choose(list(each[last].values()), main.precision)
    rows = []
    for point in dict.fromkeys(one.point for one in profile.sweep):
        known = [each[label].get(point) for label in names]
        cells = [NOTHING if one is None else duration(one.latency_ns) for one in known]
        own = known[-1]
        rows.append(
            (
                short_point(point, main),
                *cells,
                NOTHING if own is None else rate(own.per_s),
                _marks(own, choice),
            )
        )
    of = f" of {last}" if len(names) > 1 else ""
    return Table(
        "Settings",
        (*left("setting"), *names, "a second", *left("best")),
        tuple(rows),
        caption=f"Median call{'; the rest is' if of else ''}{of}. FASTEST: the shortest call. MOST: the most a second. "
        f"Front: no other setting is better in latency and in this. Marks are of settings in {main.precision}.",
    )


def _costs_table(profile: Profile) -> Table:
    """List the costs of each setting, and how far its processes differ."""
    last = labels(profile)[-1]
    settings = settings_of(profile.sweep, last)
    counted = any(one.energy_uj is not None for one in settings)
    rows = []
    for one in settings:
        energy = NOTHING if one.energy_uj is None else millijoules(one.energy_uj)
        cells = (_span(one), str(one.processes), duration(one.cpu_ns), size(one.peak_bytes))
        rows.append((short_point(one.point, profile.sweep[0].point), *cells, *([energy] if counted else [])))
    return Table(
        f"What each setting takes: {last}",
        (*left("setting"), "median call", "processes", "CPU a call", "peak memory", *(["energy"] if counted else [])),
        tuple(rows),
        caption="Median call: of the fastest and of the slowest process.",
    )


def _span(one: Setting) -> str:
    if one.processes == 1:
        return duration(one.high_ns)
    unit = duration(one.high_ns).partition(" ")[2]
    return f"{duration(one.low_ns).removesuffix(f' {unit}')} to {duration(one.high_ns)}"


def _marks(own: Setting | None, choice: Choice | None) -> str:
    if own is None or choice is None:
        return ""
    marks = [_BEST["latency"]] if own is choice.latency else []
    marks += ["as fast within noise"] if own in choice.alike else []
    marks += [_BEST["throughput"]] if own is choice.throughput else []
    marks += [_BEST["efficient"]] if own in choice.efficient else []
    marks += [_BEST["frugal"]] if own in choice.frugal else []
    return ", ".join(marks)


def _profiles(report: LayerReport) -> Iterator[LayerProfile]:
    for pair in report.comparisons:
        yield from (pair.baseline, pair.candidate)
    yield from report.profiles


def _peak_tables(profile: Profile) -> Iterator[Table]:
    """Compare the rates that a call reaches with the peaks of the runtime here."""
    if profile.layers is None:
        return
    rows = []
    for one in _profiles(profile.layers):
        roofline = one.roofline
        moved = sum(row.moved_bytes or 0 for row in one.rows)
        flops, moving = 2e9 * one.macs / one.latency_ns, 1e9 * moved / one.latency_ns
        peak = roofline.peak_flops if roofline is not None else None
        copy = roofline.peak_bytes_per_s if roofline is not None else None
        rows.append(
            (
                one.subject.label,
                f"{rate(flops)}FLOP/s",
                NOTHING if peak is None else f"{rate(peak)}FLOP/s",
                NOTHING if peak is None else percent(flops / peak),
                f"{rate(moving)}B/s",
                NOTHING if copy is None else f"{rate(copy)}B/s",
                NOTHING if copy is None else percent(moving / copy),
            )
        )
    yield Table(
        "Share of the measured peaks",
        (*left("model"), "computes", "peak", "share", "moves", "peak", "share"),
        tuple(rows),
        caption="One call against a matrix product and a copy in main memory through the same runtime. Bytes: inputs, "
        "weights and outputs of each layer, each once; what stays in a cache can pass the peak of main memory.",
    )


def _hot_tables(profile: Profile) -> Iterator[Table]:
    """Yield the slowest layers: side by side for a pair, else of the single model."""
    if profile.layers is not None:
        for pair in profile.layers.comparisons:
            yield comparison_tables(pair, _LAYERS)[0]
        for one in profile.layers.profiles:
            yield layer_tables(one, _LAYERS)[0]


def _all_layers(profile: Profile) -> Iterator[Table]:
    if profile.layers is not None:
        for one in _profiles(profile.layers):
            yield layer_tables(one)[0]


def _cooling_table(profile: Profile) -> Table:
    rows = [(one.before, *_cooled(one)) for one in profile.cooling if one.ended != "not told"]
    return Table(
        "Waits until the board was cool", (*left("before"), "from", "to", "waited", *left("ended by")), tuple(rows)
    )


def _cooled(one: Cooling) -> tuple[str, ...]:
    target = "" if one.target_celsius is None else f"{one.target_celsius:.1f} C"
    ended = f"{target} or less" if one.ended == "cool" else f"time limit, above {target}"
    return _celsius(one.start_celsius), _celsius(one.end_celsius), f"{one.waited_s:.0f} s", ended


def seconds_tables(profile: Profile) -> Iterator[Table]:
    """Yield a table of each load, second by second."""
    for load in profile.sustained:
        kinds = list(dict.fromkeys(kind for one in load.seconds for kind in one.reading.khz))
        rows = tuple(
            (
                f"{one.at_s:.0f}",
                duration(median(one.calls_ns)),
                rate(one.calls / one.lasted_s),
                *(_clock(one, kind) for kind in kinds),
                _celsius(one.reading.celsius),
                NOTHING if one.watts is None else f"{one.watts:.2f} W",
                ", ".join(one.reading.throttled) or NOTHING,
            )
            for one in load.seconds
        )
        yield Table(
            f"{load.label} under load, second by second",
            ("at [s]", "median call", "calls a second", *kinds, "temperature", "power", *left("held down by")),
            rows,
        )


def _clock(one: Second, kind: str) -> str:
    khz = one.reading.khz.get(kind)
    return NOTHING if khz is None else clock(khz)
