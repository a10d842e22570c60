"""Run ``deploy profile`` part by part; any part may be absent, with a reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backends.errors import BackendError, one_line
from benchmarks.arm import PreparedArm
from benchmarks.errors import BenchmarkError
from benchmarks.layers.comparison import LayerReport
from benchmarks.machine.board.identity import read_board
from benchmarks.machine.board.watch import BoardWatch
from benchmarks.machine.energy import EnergyMeter
from benchmarks.machine.lock import machine_lock
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import require_backends
from benchmarks.subject.inputs import model_specs
from deploy.edge.profile.cold import cold_starts
from deploy.edge.profile.cooling import cool_down
from deploy.edge.profile.identity import runtimes
from deploy.edge.profile.record import PARTS, Absent, ColdStart, PartName, Profile
from deploy.edge.profile.settings import candidates_of, other_backends, without_folders
from deploy.edge.profile.sustain import put_under_load
from deploy.edge.profile.sweep import PASSES, sweep
from deploy.files.atomic import require_writable
from deploy.results.bench_grid import Grid, bench_models, reference_of
from deploy.results.layer_profiles import profile_models

__all__ = ["Wanted", "profile_on_board"]

Say = Callable[[str], None]

_IDLE_S = 2.0
_LEAST_COOLING_S = 30.0
_NOT_REACHED = "the profile ended before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to profile, and for how long.

    Parameters
    ----------
    models : Mapping of str to Path
        One or two ONNX files by label, the baseline first.
    grid : Grid
        One point: the setting of all parts but the sweep.
    backends : sequence of str or None
        Other backends for the sweep; None: all usable here except those meant for training machines.
    settings : Settings
        Settings of the steady state; the sweep has the same budget.
    sustain_s : float
        Seconds of load on each model; 0: none.
    skip : frozenset of str
        Parts to leave out.
    accepts_unfit : bool, default=False
        Whether to accept numbers of an unfit machine.
    """

    models: Mapping[str, Path]
    grid: Grid
    backends: Sequence[str] | None
    settings: Settings
    sustain_s: float
    skip: frozenset[PartName] = frozenset()
    accepts_unfit: bool = False


def profile_on_board(wanted: Wanted, say: Say, output: Path | None = None) -> Profile:
    """Measure every part, one after the other.

    Parameters
    ----------
    wanted : Wanted
        What to profile, and for how long.
    say : callable
        Receives one short line for each step.
    output : Path, optional
        Receives the profile after each part, so a killed run keeps the finished ones.

    Raises
    ------
    BackendError, BenchmarkError
        A file is broken, a backend is not usable here, or an option is invalid.
    OutputError
        `output` cannot be written; noticed before anything is measured.
    """
    if output is not None:
        require_writable(output)
    grid = wanted.grid
    backends = other_backends(grid.backends[0]) if wanted.backends is None else tuple(wanted.backends)
    require_backends((*grid.backends, *(wanted.backends or ())), grid.device)
    for path in wanted.models.values():
        model_specs(path)  # fails early on a broken file
    work = _Work(wanted, backends, say, output)
    work.look()
    work.prepare()
    work.run()
    return work.profile()


@dataclass
class _Work:
    """A profile that grows part by part."""

    wanted: Wanted
    backends: Sequence[str]
    say: Say
    output: Path | None
    arms: Sequence[PreparedArm] = ()
    rest_celsius: float | None = None
    found: dict[str, Any] = field(default_factory=dict)
    absent: dict[PartName, str] = field(default_factory=dict)
    done: set[PartName] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.say("reading the board")
        self.board = read_board(runtimes=runtimes())
        self.watch = BoardWatch(self.board, cores=self.wanted.grid.cores)
        meter = EnergyMeter()
        self.meter = meter if meter.sources else None
        if self.meter is None:
            self.absent["energy"] = self.board.no_energy
        for part in self.wanted.skip:
            self.absent[part] = "left out by --skip"
        if not self.wanted.sustain_s:
            self.absent.setdefault("sustained", "not asked for: --sustain 0")

    def look(self) -> None:
        """Read the board at rest, before any load."""
        self.rest_celsius = self.watch.read().celsius
        self._idle()

    def prepare(self) -> None:
        """Make the inputs and compute the reference answers."""
        wanted = self.wanted
        [specs] = wanted.grid.specs(wanted.models)
        self.arms = [
            PreparedArm.prepare(spec, None, reference_of(spec.model), wanted.settings, self.say) for spec in specs
        ]

    def run(self) -> None:
        """Measure all parts; those that fail are absent, with the reason."""
        wanted = self.wanted
        self.say("steady state")
        self.found["results"] = bench_models(
            wanted.models, wanted.grid, wanted.settings, self.say, accepts_unfit=wanted.accepts_unfit
        )
        failed = any(one.failure for one in self.found["results"].all_measurements())
        parts: dict[PartName, Callable[[], None]] = {
            "cold": self._cold,
            "sustained": self._sustained,
            "sweep": self._sweep,
            "layers": self._layers,
        }
        self.done.add("steady")
        for part, measure in parts.items():
            self._save()
            if part in self.absent:
                continue
            if failed:
                self.absent[part] = "the steady state failed"
                continue
            try:
                measure()
            except (BackendError, BenchmarkError) as error:
                self.absent[part] = without_folders(one_line(error, limit=500), self.arms)
            self.done.add(part)
        if self.meter is not None:
            self.done.add("energy")
            if not self._counted():
                self.absent["energy"] = f"{', '.join(self.board.energy)}: no reading was long enough"
        self._save()

    def profile(self) -> Profile:
        """Return the profile so far."""
        reasons = dict(self.absent)
        for part in PARTS:
            if part not in self.done:
                reasons.setdefault(part, _NOT_REACHED)
        return Profile(
            created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=version("prune-deploy"),
            board=self.board,
            absent=tuple(Absent(part=part, why=reasons[part]) for part in PARTS if part in reasons),
            **self.found,
        )

    def _save(self) -> None:
        if self.output is not None:
            self.profile().save(self.output)

    def _idle(self) -> None:
        """Measure the power of the board at rest, needed for the net energy of a call."""
        if self.meter is None:
            return
        self.say("power at rest")
        with machine_lock("deploy profile", say=self.say):
            self.meter.start()
            begin_s = time.monotonic()
            time.sleep(_IDLE_S)
            energy_uj = self.meter.stop()
            lasted_s = time.monotonic() - begin_s
        if energy_uj is not None:
            self.found |= {"idle_watts": energy_uj / 1e6 / lasted_s, "idle_s": lasted_s}

    def _cold(self) -> None:
        settings, starts = self.wanted.settings, list[ColdStart]()
        with machine_lock("deploy profile", say=self.say):
            for arm in self.arms:
                self.say(f"{arm.subject.label}: cold starts")
                starts += cold_starts(arm, timeout_s=settings.timeout_s, budget_s=settings.budget_s)
        self.found["cold"] = tuple(starts)

    def _sustained(self) -> None:
        wanted, loads = self.wanted, []
        for arm in self.arms:
            self._cool(f"load on {arm.subject.label}")
            with machine_lock("deploy profile", say=self.say):
                loads.append(
                    put_under_load(
                        arm,
                        wanted.sustain_s,
                        self.watch,
                        timeout_s=wanted.settings.timeout_s,
                        meter=self.meter,
                        say=self.say,
                    )
                )
            self.found["sustained"] = tuple(loads)  # keep the first if the second fails

    def _sweep(self) -> None:
        wanted = self.wanted
        self._cool("the settings")
        ready, refused = candidates_of(self.arms, self.board, self.backends, wanted.settings, self.say)
        self.found["refused"] = refused
        with machine_lock("deploy profile", say=self.say):
            result = sweep(
                ready,
                wanted.settings.budget_s,
                timeout_s=wanted.settings.timeout_s,
                meter=self.meter,
                say=self.say,
                passes=1 if wanted.settings.fast else PASSES,
            )
        swept = tuple(
            one if one.failure is None else one.model_copy(update={"failure": without_folders(one.failure, self.arms)})
            for one in result.swept
        )
        self.found |= {"sweep": swept, "left_out": result.left_out}

    def _layers(self) -> None:
        self._cool("the layers")
        report = LayerReport()
        grid = replace(self.wanted.grid, cores=None)  # profiled processes are not bound
        for profiles, pair in profile_models(
            self.wanted.models, grid, duration_s=2.0, seed=self.wanted.settings.seed, say=self.say
        ):
            report = report.with_point(profiles, pair)
        self.found["layers"] = report

    def _cool(self, before: str) -> None:
        limit_s = max(_LEAST_COOLING_S, self.wanted.sustain_s)
        cooled = cool_down(self.watch, self.rest_celsius, before, limit_s=limit_s, say=self.say)
        self.found["cooling"] = (*self.found.get("cooling", ()), cooled)

    def _counted(self) -> bool:
        """Return whether any part has an energy figure."""
        loads = (second.energy_uj for load in self.found.get("sustained", ()) for second in load.seconds)
        trials = (trial.energy_uj for one in self.found.get("sweep", ()) for trial in one.trials)
        steady = (one.energy_uj_per_call for one in self.found["results"].all_measurements())
        return any(energy is not None for energy in (*loads, *trials, *steady))
