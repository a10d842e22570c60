"""Stored latency tables, looked up by everything they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.errors import NotComparableError, RecordError
from benchmarks.machine.state import STATE_VARIABLE, state_folder
from benchmarks.records.base import Record
from benchmarks.records.file import save, version_of
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable, TableKey

__all__ = ["find_table", "keep", "keep_table", "kept_tables", "newest_first", "tables_folder"]


def tables_folder() -> Path:
    """Return where tables are stored: ``tables`` in the state folder of this machine."""
    return state_folder() / "tables"


def find_table(
    key: TableKey, space: PlanSpace, plans: int, folder: Path | None = None
) -> tuple[LatencyTable | None, str]:
    """Look for a table measured for exactly this key, plan space and number of plans.

    Parameters
    ----------
    key : TableKey
        Model file content, backend and its version, options, machine.
    space : PlanSpace
        Which parts of the file depend on the widths.
    plans : int
        Number of plans a table is made of.
    folder : Path, optional
        Default: `tables_folder`.

    Returns
    -------
    (LatencyTable or None, str)
        The table, and a line that says which one it is or why there is none.
    """
    folder = folder or tables_folder()
    path = folder / _name(key, space, plans)
    if path.is_file():
        try:
            return LatencyTable.load(path), f"using a table measured before on this machine: {path}"
        except RecordError as error:
            return None, f"{error}: it is measured again"
    why = ""
    for other, table in kept_tables(folder):
        if (table.key.model_sha256, table.key.backend) == (key.model_sha256, key.backend):
            try:
                table.require(key, str(other))
            except NotComparableError as error:
                why = why or str(error).removesuffix(": build it again") + ": another one is measured"
            else:
                return None, f"{other} was made with other groups, blocks or plans: another one is measured"
    return None, why or f"no table of this network was measured for {key.backend} on this machine before"


def keep_table(table: LatencyTable, space: PlanSpace, plans: int, folder: Path | None = None) -> Path:
    """Store a table, atomically replacing an older one with the same key.

    Raises
    ------
    RecordError
        The folder cannot be written to.
    """
    path = (folder or tables_folder()) / _name(table.key, space, plans)
    keep(table, path)
    return path


def keep(record: Record, path: Path) -> None:
    """Write a record, creating its folder if missing.

    Raises
    ------
    RecordError
        The folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(
            f"cannot write to {path.parent}: {error.strerror or error}; set {STATE_VARIABLE} to a folder"
        ) from error
    save(record, path)


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Sort files by the time they were written; those that another process removes meanwhile are left out."""
    times = {}
    for path in paths:
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime
    return sorted(times, key=times.__getitem__, reverse=True)


def kept_tables(folder: Path | None = None) -> Iterator[tuple[Path, LatencyTable]]:
    """Yield every stored table and its file, newest first; files of other versions are skipped."""
    for path in newest_first((folder or tables_folder()).glob("*.json")):
        try:
            yield path, LatencyTable.load(path)
        except RecordError:
            continue


def _name(key: TableKey, space: PlanSpace, plans: int) -> str:
    measured = space.model_dump(mode="json", exclude={"whole_layers"})  # why a layer stays whole changes no time
    parts = [key.model_dump(mode="json"), measured, plans, version_of(LatencyTable)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32] + ".json"
