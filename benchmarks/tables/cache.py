"""Latency tables measured before, found again by what decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.errors import NotComparableError, RecordError
from benchmarks.machine.state import state_folder
from benchmarks.records.base import Record
from benchmarks.records.file import save
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable, TableKey

__all__ = ["find_table", "keep", "keep_table", "kept_tables", "tables_folder"]


def tables_folder() -> Path:
    """Return where tables are kept: ``tables`` in the folder for what is remembered about this machine."""
    return state_folder() / "tables"


def find_table(
    key: TableKey, space: PlanSpace, plans: int, folder: Path | None = None
) -> tuple[LatencyTable | None, str]:
    """Look for a table that was measured for just this.

    Parameters
    ----------
    key : TableKey
        Content of the network's file, backend and its version, options, machine.
    space : PlanSpace
        What of the file follows the widths.
    plans : int
        How many plans a table is made of.
    folder : Path, optional
        Default: `tables_folder`.

    Returns
    -------
    (LatencyTable or None, str)
        And a line that says which one, or why there is none.
    """
    folder = folder or tables_folder()
    path = folder / _name(key, space, plans)
    if path.is_file():
        try:
            return LatencyTable.load(path), f"using a table measured before on this machine: {path}"
        except RecordError as error:
            return None, f"{error}: it is measured again"
    for other, table in kept_tables(folder):
        if (table.key.model_sha256, table.key.backend) == (key.model_sha256, key.backend):
            try:
                table.require(key, str(other))
            except NotComparableError as error:
                return None, str(error).removesuffix(": build it again") + ": another one is measured"
    return None, f"no table of this network was measured for {key.backend} on this machine before"


def keep_table(table: LatencyTable, space: PlanSpace, plans: int, folder: Path | None = None) -> Path:
    """Keep a table; it takes the place of an older one for the same, whole or not at all.

    Raises
    ------
    RecordError
        The folder cannot be written to.
    """
    path = (folder or tables_folder()) / _name(table.key, space, plans)
    keep(table, path)
    return path


def keep(record: Record, path: Path) -> None:
    """Write a record into a folder that is made where it is missing.

    Raises
    ------
    RecordError
        The folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot write to {path.parent}: {error.strerror or error}; choose another place") from error
    save(record, path)


def kept_tables(folder: Path | None = None) -> Iterator[tuple[Path, LatencyTable]]:
    """Yield every table that is kept and its file, the newest first; files of other versions are passed over."""
    paths = (folder or tables_folder()).glob("*.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            yield path, LatencyTable.load(path)
        except RecordError:
            continue


def _name(key: TableKey, space: PlanSpace, plans: int) -> str:
    version = LatencyTable.model_fields["version"].default
    parts = [key.model_dump(mode="json"), space.model_dump(mode="json"), plans, version]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32] + ".json"
