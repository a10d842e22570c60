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
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from backends.reading.files import require_regular
from benchmarks.arm import Arm
from benchmarks.comparison import compared
from benchmarks.errors import NotComparableError, RecordError
from benchmarks.records.base import Record
from benchmarks.records.disk import sync_entry
from benchmarks.records.measurement import (
    Agreement,
    Comparison,
    Conditions,
    Cost,
    Environment,
    Measurement,
    Subject,
    Trial,
)
from benchmarks.settings import NOT_A_VERDICT, Settings

__all__ = ["INTERRUPTED", "Begun", "Contents", "Journal", "journal_path", "recover"]

INTERRUPTED = "Interrupted"
"""``failure_kind`` of an arm of which no trial had ended."""

_FORMAT = "prune-deploy journal"
_VERSION = 2
_READ = (1, 2)  # 2: also the conditions of the machine
_SEAL = ',"crc32":"{:08x}"}}\n'
_SEAL_BYTES = len(_SEAL.format(0))


class Begun(Record):
    """What is known of one arm before its first trial."""

    subject: Subject
    environment: Environment
    cost: Cost | None = None
    margin: float | None = None
    seed: int = 0
    started_utc: str = ""
    fast: bool = False


class _Of(Record):
    side: str


class _Begun(_Of):
    entry: Literal["begun"]
    data: Begun


class _Checked(_Of):
    entry: Literal["checked"]
    agreement: Agreement | None
    backend_version: str | None


class _Trial(_Of):
    entry: Literal["trial"]
    data: Trial


class _Failure(_Of):
    entry: Literal["failure"]
    reason: str
    kind: str


class _Conditions(Record):
    entry: Literal["conditions"]
    data: Conditions


class _Head(Record):
    journal: Literal["prune-deploy journal"]
    version: int


_Entry = Annotated[_Begun | _Checked | _Trial | _Failure | _Conditions, Field(discriminator="entry")]
_ENTRIES: TypeAdapter[_Entry] = TypeAdapter(_Entry)


@dataclass(slots=True)
class Contents:
    """What a journal holds.

    Parameters
    ----------
    begun : dict of str to Begun
        What was known of each arm before its first trial, in the order in which they began.
    arms : dict of str to Arm
        What was gathered of each.
    conditions : Conditions or None
        Of the machine, as last judged; None where the run ended before that, or its journal is of version 1.
    torn : str
        A word on a last line that was cut off and is ignored; empty where there is none.
    """

    begun: dict[str, Begun] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)
    conditions: Conditions | None = None
    torn: str = ""

    def measurement(self, name: str) -> Measurement:
        """Return the record of what had been measured of one arm; like a run's own, it has trials or a failure."""
        begun, arm = self.begun[name], self.arms[name]
        if arm.failure is None and not arm.trials:
            arm.failure, arm.failure_kind = "the run was interrupted before its first trial ended", INTERRUPTED
        caveats = [f"the run was interrupted after {len(arm.trials)} trials"]
        if begun.fast:
            caveats.append(NOT_A_VERDICT)
        if self.conditions is None:
            caveats.append("whether the machine was fit for measuring is not known: the journal does not say")
        return arm.measurement(
            self.conditions or Conditions(environment=begun.environment),
            seed=begun.seed,
            started_utc=begun.started_utc,
            caveats=caveats,
        )


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
            sync_entry(path.parent)
        except OSError as error:
            raise RecordError(f"cannot write the journal {path}: {error.strerror or error}") from error
        self._append({"journal": _FORMAT, "version": _VERSION})

    def begin(self, arm: str, begun: Begun) -> None:
        """Write what is known of an arm before its first trial; `arm` is its key, for example ``"baseline"``."""
        self._append_record("begun", arm, begun)

    def checked(self, arm: str, agreement: Agreement | None, backend_version: str | None) -> None:
        """Write what a compiled model said of itself and how it answered."""
        known = agreement.model_dump(mode="json") if agreement is not None else None
        self._append({"entry": "checked", "side": arm, "agreement": known, "backend_version": backend_version})

    def trial(self, arm: str, trial: Trial) -> None:
        """Write a trial that has ended."""
        self._append_record("trial", arm, trial)

    def failure(self, arm: str, reason: str, kind: str) -> None:
        """Write why an arm has no samples."""
        self._append({"entry": "failure", "side": arm, "reason": reason, "kind": kind})

    def conditions(self, conditions: Conditions) -> None:
        """Write what the machine was like until now: the last one counts."""
        self._append({"entry": "conditions", "data": conditions.model_dump(mode="json")})

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
            The file is missing, is not a journal, or a line other than the last is damaged.
        """
        return _read(path)

    def _append_record(self, entry: str, arm: str, record: Record) -> None:
        self._append({"entry": entry, "side": arm, "data": record.model_dump(mode="json")})

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
    """Return where the journal of a run is whose final record goes to `target`."""
    return target.with_name(f"{target.name}.journal")


def recover(path: Path) -> tuple[Measurement | Comparison, str]:
    """Rebuild from a journal what its run would have given, had it been asked for the trials that ended.

    Of two arms the first is the baseline. Pairs of which only one trial ended are left out.

    Parameters
    ----------
    path : Path
        A journal.

    Returns
    -------
    (Measurement or Comparison, str)
        And a word on what was cut off, empty where nothing was. A comparison of fewer than 6 pairs is inconclusive; one
        in which an arm has no trial has failed.

    Raises
    ------
    RecordError
        See `Journal.read`; or the journal holds no arm, or of two arms not what a comparison needs.
    """
    contents = _read(path)
    try:
        return _measured(contents), contents.torn
    except NotComparableError as error:
        raise RecordError(f"{path}: {error}") from error
    except (ArithmeticError, ValueError) as error:
        raise RecordError(f"{path} is damaged: its entries do not fit together") from error


def _measured(contents: Contents) -> Measurement | Comparison:
    names = list(contents.arms)
    if len(names) == 1:
        return contents.measurement(names[0])
    if len(names) != 2:
        raise NotComparableError("nothing to recover: the run was interrupted before it knew its models")
    baseline, candidate = contents.arms.values()
    of_baseline, of_candidate = contents.begun.values()
    if of_baseline.cost is None or of_candidate.cost is None or of_candidate.margin is None:
        raise NotComparableError("two models, but not their costs: it is the journal of two measurements")
    if baseline.failure is None and candidate.failure is None:
        n_pairs = min(len(baseline.trials), len(candidate.trials))
        del baseline.trials[n_pairs:], candidate.trials[n_pairs:]
    # What interrupted the run did not look at the ratios: their number counts as fixed.
    settings = Settings(trials=max(1, len(candidate.trials)), margin=of_candidate.margin, fast=of_candidate.fast)
    first, second = map(contents.measurement, names)
    return compared(first, second, (of_baseline.cost, of_candidate.cost), settings)


def _read(path: Path) -> Contents:
    try:
        require_regular(path)
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    entries: list[bytes] = []
    torn = f"{len(rest)} bytes of a line that was cut off are ignored" if rest else ""
    for number, line in enumerate(lines, 1):
        entry = _opened(line)
        if entry is not None:
            entries.append(entry)
        elif number == len(lines) and not rest and entries:
            torn = "a damaged last line is ignored"
        else:
            raise RecordError(f"{path} is not a journal, or is damaged: line {number} does not fit its checksum")
    try:
        head = _Head.model_validate_json(entries[0])
    except (IndexError, ValidationError) as error:
        raise RecordError(f"{path} is not a journal of a measurement") from error
    if head.version not in _READ:
        raise RecordError(f"{path} is a journal of version {head.version}; this program reads 1 to {_VERSION}")
    contents = Contents(torn=torn)
    try:
        for entry in entries[1:]:
            _take(contents, _ENTRIES.validate_json(entry))
    except (KeyError, ValidationError) as error:  # anybody can compute a checksum
        raise RecordError(f"{path} is damaged: an entry is not what it says") from error
    return contents


def _opened(line: bytes) -> bytes | None:
    """Return the JSON of a whole line, None of a damaged one."""
    body = line[: 1 - _SEAL_BYTES]
    return body + b"}" if line[len(body) :] + b"\n" == _SEAL.format(zlib.crc32(body)).encode() else None


def _take(contents: Contents, entry: _Entry) -> None:
    match entry:
        case _Conditions():
            contents.conditions = entry.data
        case _Begun():
            contents.begun[entry.side] = entry.data
            contents.arms[entry.side] = Arm(subject=entry.data.subject)
        case _Checked():
            arm = contents.arms[entry.side]
            arm.backend_version = entry.backend_version
            arm.agreement = entry.agreement or arm.agreement
        case _Trial():
            contents.arms[entry.side].trials.append(entry.data)
        case _Failure():
            arm = contents.arms[entry.side]
            arm.failure, arm.failure_kind = entry.reason, entry.kind


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
