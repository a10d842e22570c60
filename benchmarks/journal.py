"""Results written so far: a file to which a run appends each trial as it ends, and from which an ended run is rebuilt.

One entry is one line of JSON with a checksum as its last member, written by a single call and forced to the disk before
the next trial starts. A kill at any moment leaves whole lines and at most one torn one at the end, which is ignored and
reported. The first line says what the file is. When the final record is saved the journal is deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from benchmarks.errors import NotComparableError, RecordError
from benchmarks.records.base import Record
from benchmarks.records.measurement import (
    Agreement,
    Comparison,
    Cost,
    Environment,
    Interval,
    Measurement,
    Subject,
    Trial,
)
from benchmarks.settings import Settings
from benchmarks.stats.log_ratios import Verdict, log_ratios, require_comparable
from benchmarks.stopping import judge_pairs

__all__ = ["INTERRUPTED", "Begun", "Contents", "Journal", "Side", "journal_path", "recover"]

INTERRUPTED = "Interrupted"
"""``failure_kind`` of a side of which no trial had ended."""

_FORMAT = "prune-deploy journal"
_VERSION = 1
_SEAL = ',"crc32":"{:08x}"}}\n'
_SEAL_BYTES = len(_SEAL.format(0))
_MIN_PAIRS = 2

Entry = TypeVar("Entry", bound=Record)


class Begun(Record):
    """What is known of one side before its first trial."""

    subject: Subject
    environment: Environment
    cost: Cost | None = None
    margin: float | None = None
    seed: int = 0
    started_utc: str = ""


@dataclass(slots=True)
class Side:
    """What a journal holds of one side.

    Parameters
    ----------
    begun : Begun
        What was known before.
    trials : list of Trial
        Those that ended, in their order.
    agreement : Agreement or None
        The latest check of its answers.
    backend_version : str or None
        As the runtime said.
    failure, failure_kind : str or None
        Why it has no samples.
    """

    begun: Begun
    trials: list[Trial] = field(default_factory=list)
    agreement: Agreement | None = None
    backend_version: str | None = None
    failure: str | None = None
    failure_kind: str | None = None

    def measurement(self) -> Measurement:
        """Give the record of what had been measured; like a run's own, it has trials or a failure."""
        failure, kind = self.failure, self.failure_kind
        if failure is None and not self.trials:
            failure, kind = "the run was interrupted before its first trial ended", INTERRUPTED
        doubt = f"the run was interrupted after {len(self.trials)} trials"
        return Measurement(
            subject=self.begun.subject,
            backend_version=self.backend_version,
            environment=self.begun.environment,
            agreement=self.agreement,
            trials=() if failure is not None else tuple(self.trials),
            failure=failure,
            failure_kind=kind,
            doubts=() if failure is not None else (doubt,),
            seed=self.begun.seed,
            started_utc=self.begun.started_utc,
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a journal holds.

    Parameters
    ----------
    sides : dict of str to Side
        In the order in which they began.
    torn : str
        A word on a last line that was cut off and is ignored; empty where there is none.
    """

    sides: dict[str, Side]
    torn: str = ""


class Journal:
    """Appends to the journal of a run that is under way.

    Each method returns when its entry is on the disk. An older journal at the same place is moved to the first free
    ``<name>.1``, ``<name>.2``, ...: what it holds is not lost.

    Parameters
    ----------
    path : Path
        Where; see `journal_path`.

    Raises
    ------
    RecordError
        The file cannot be written, or another run that is alive writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _set_aside(path)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_folder(path.parent)
        except OSError as error:
            raise RecordError(f"cannot write the journal {path}: {error.strerror or error}") from error
        self._append({"journal": _FORMAT, "version": _VERSION})

    def begin(self, side: str, begun: Begun) -> None:
        """Write what is known of a side before its first trial; `side` is its key, for example ``"baseline"``."""
        self._append_record("begun", side, begun)

    def checked(self, side: str, agreement: Agreement | None, backend_version: str | None) -> None:
        """Write what a compiled model said of itself and how it answered."""
        known = agreement.model_dump(mode="json") if agreement is not None else None
        self._append({"entry": "checked", "side": side, "agreement": known, "backend_version": backend_version})

    def trial(self, side: str, trial: Trial) -> None:
        """Write a trial that has ended."""
        self._append_record("trial", side, trial)

    def failure(self, side: str, reason: str, kind: str) -> None:
        """Write why a side has no samples."""
        self._append({"entry": "failure", "side": side, "reason": reason, "kind": kind})

    def finish(self) -> None:
        """Delete the journal: the final record is saved. A second call does nothing."""
        if self._descriptor >= 0:
            ours, there = os.fstat(self._descriptor), self.path.stat() if self.path.exists() else None
            if there is not None and (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Leave the journal where it is; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def read(path: Path) -> Contents:
        """Read a journal, of a run that ended or of one under way.

        Raises
        ------
        RecordError
            The file is missing, is no journal, or a line other than the last is damaged.
        """
        return _read(path)

    def _append_record(self, entry: str, side: str, record: Record) -> None:
        self._append({"entry": entry, "side": side, "data": record.model_dump(mode="json")})

    def _append(self, entry: dict[str, Any]) -> None:
        body = json.dumps(entry, separators=(",", ":")).encode()[:-1]
        line = memoryview(body + _SEAL.format(zlib.crc32(body)).encode())
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise RecordError(f"cannot write the journal {self.path}: {error.strerror or error}") from error


def journal_path(target: Path) -> Path:
    """Say where the journal of a run is whose final record goes to `target`."""
    return target.with_name(f"{target.name}.journal")


def recover(path: Path) -> tuple[Measurement | Comparison, str]:
    """Rebuild from a journal what its run would have given, had it been asked for the trials that ended.

    Of two sides the first is the baseline. Pairs of which only one trial ended are left out.

    Parameters
    ----------
    path : Path
        A journal.

    Returns
    -------
    (Measurement or Comparison, str)
        And a word on what was cut off, empty where nothing was. A comparison of fewer than 6 pairs is inconclusive; one
        in which a side has no trial has failed.

    Raises
    ------
    RecordError
        See `Journal.read`; or the journal holds no side, or of two sides not what a comparison needs.
    """
    contents = _read(path)
    sides = list(contents.sides.values())
    if len(sides) == 1:
        return sides[0].measurement(), contents.torn
    if len(sides) != 2:
        raise RecordError(f"{path}: nothing to recover: the run was interrupted before it knew its models")
    baseline, candidate = sides
    costs, margin = [side.begun.cost for side in sides], candidate.begun.margin
    if costs[0] is None or costs[1] is None or margin is None:
        raise RecordError(f"{path}: two models, but not their costs: it is the journal of two measurements")
    if baseline.failure is None and candidate.failure is None:
        n_pairs = min(len(baseline.trials), len(candidate.trials))
        del baseline.trials[n_pairs:], candidate.trials[n_pairs:]
    of_baseline, of_candidate = baseline.measurement(), candidate.measurement()
    speedup: Interval | None = None
    verdict: Verdict | Literal["failed"] = "failed"
    ratios: tuple[float, ...] = ()
    if of_baseline.failure is None and of_candidate.failure is None:
        verdict = "inconclusive"
        try:
            require_comparable(of_candidate, of_baseline)
            ratios = log_ratios(of_candidate.trials, of_baseline.trials)
        except NotComparableError as error:
            raise RecordError(f"{path}: {error}") from error
        if len(ratios) >= _MIN_PAIRS:
            # What interrupted the run did not look at the ratios: their number counts as fixed.
            decision = judge_pairs(ratios, Settings(trials=len(ratios), margin=margin), spent=True)
            assert decision.verdict != "continue", "all pairs there will ever be were looked at"
            speedup, verdict = decision.speedup, decision.verdict
    comparison = Comparison(
        baseline=of_baseline,
        candidate=of_candidate,
        baseline_cost=costs[0],
        candidate_cost=costs[1],
        speedup=speedup,
        log_ratios=ratios,
        margin=margin,
        verdict=verdict,
    )
    return comparison, contents.torn


def _read(path: Path) -> Contents:
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    entries: list[dict[str, Any]] = []
    torn = f"{len(rest)} bytes of a line that was cut off are ignored" if rest else ""
    for number, line in enumerate(lines, 1):
        entry = _opened(line)
        if entry is not None:
            entries.append(entry)
        elif number == len(lines) and not rest and entries:
            torn = "a damaged last line is ignored"
        else:
            raise RecordError(f"{path} is no journal, or is damaged: line {number} does not fit its checksum")
    if not entries or entries[0].get("journal") != _FORMAT:
        raise RecordError(f"{path} is not a journal of a measurement")
    if entries[0].get("version") != _VERSION:
        raise RecordError(f"{path} is a journal of version {entries[0].get('version')}; this program reads {_VERSION}")
    try:
        return Contents(_sides(entries[1:]), torn)
    except (KeyError, ValidationError) as error:
        raise RecordError(f"{path} is damaged: an entry is not what it says") from error


def _opened(line: bytes) -> dict[str, Any] | None:
    """Give the entry of a whole line, None of a damaged one."""
    body = line[: 1 - _SEAL_BYTES]
    if line[len(body) :] + b"\n" != _SEAL.format(zlib.crc32(body)).encode():
        return None
    entry: dict[str, Any] = json.loads(body + b"}")
    return entry


def _sides(entries: Iterable[dict[str, Any]]) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    for entry in entries:
        kind, name = entry["entry"], entry["side"]
        if kind == "begun":
            sides[name] = Side(_record(Begun, entry["data"]))
        elif kind == "checked":
            sides[name].backend_version = entry["backend_version"]
            if entry["agreement"] is not None:
                sides[name].agreement = _record(Agreement, entry["agreement"])
        elif kind == "trial":
            sides[name].trials.append(_record(Trial, entry["data"]))
        elif kind == "failure":
            sides[name].failure, sides[name].failure_kind = entry["reason"], entry["kind"]
        else:
            raise KeyError(kind)
    return sides


def _record(kind: type[Entry], data: object) -> Entry:
    return kind.model_validate_json(json.dumps(data))


def _set_aside(path: Path) -> None:
    """Move an older journal out of the way, unless its run is alive."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        number = 1
        while path.with_name(f"{path.name}.{number}").exists():
            number += 1
        path.rename(path.with_name(f"{path.name}.{number}"))
    except BlockingIOError as error:
        raise RecordError(f"another run is writing the journal {path}; wait for it or choose another place") from error
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
