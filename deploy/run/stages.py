"""Store behind resumable runs: finished stages are kept, half-finished ones never count."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from deploy.errors import OutputError
from deploy.files.atomic import write_file

__all__ = ["Stage", "StageStore", "stage_key", "write_json"]

_STARTED = "started.json"
_DONE = "done.json"


def stage_key(*parts: Any) -> str:
    """Hash everything that affects a stage's result, including keys of earlier stages."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; the file appears whole or not at all."""
    write_file(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


class Stage:
    """One step of a run in a folder of its own.

    The folder records the key under which its work was started. Work of another key is deleted; unfinished work of the
    same key is left in place, so that training resumes from its last checkpoint.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    @property
    def done(self) -> bool:
        """True when this stage finished under this key."""
        return self._key_in(_DONE) == self.key

    def begin(self) -> Path:
        """Return the folder to work in, emptied of work that belongs to another key."""
        # Unmark it first: a kill while its files are deleted must not leave it looking finished.
        (self.folder / _DONE).unlink(missing_ok=True)
        if self.folder.exists() and self._key_in(_STARTED) != self.key:
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _STARTED, {"key": self.key})
        return self.folder

    def finish(self) -> None:
        """Record that everything in the folder is complete."""
        write_json(self.folder / _DONE, {"key": self.key})

    def ensure(self, work: Callable[[Path], object]) -> None:
        """Do the work in the folder, unless it is already done."""
        if not self.done:
            work(self.begin())
            self.finish()

    def redo(self) -> None:
        """Mark the stage as not started, as its results cannot be used."""
        (self.folder / _DONE).unlink(missing_ok=True)
        (self.folder / _STARTED).unlink(missing_ok=True)

    def _key_in(self, name: str) -> str | None:
        try:
            value = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: not JSON, or not even text
            return None
        key = value.get("key") if isinstance(value, dict) else None
        return key if isinstance(key, str) else None


class StageStore:
    """The folder of one run.

    Parameters
    ----------
    root : Path
        Created if missing.

    Raises
    ------
    OutputError
        The folder cannot be made or written to: refused before any work.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise OutputError(f"cannot write to output folder {root}: {error.strerror}; choose another") from error

    @property
    def resolved(self) -> Path:
        """File of the recipe with all its defaults, as last used to prepare the run."""
        return self.root / "recipe.json"

    def stage(self, name: str, key: str) -> Stage:
        """Return the stage called `name` for work with this `key`."""
        return Stage(self.root / name, key)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises
        ------
        OutputError
            Another process is working on the same run.
        """
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"{self.root} is in use by another 'deploy run' or 'deploy study'; wait for it or choose another"
                ) from error
            yield
