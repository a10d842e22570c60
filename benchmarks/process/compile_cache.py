"""Compiled models kept on disk under the hash of all that they depend on, and checked when they are read.

A file is one line of JSON (the key and what it was made of, the hash of the rest, what compiling took) and behind it
the runtime's own bytes. It is written under another name and renamed: a reader never sees half of one. What is
damaged, or is not what its name says, is a miss: that is said in one line, and the file is written anew. Runtimes trust
what they load, so the folder is for its owner alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt, ValidationError

from backends.base import Backend, CompiledModel, CompileOptions
from backends.errors import ArtefactError, one_line
from benchmarks.errors import SettingError
from benchmarks.records.base import Record
from benchmarks.records.measurement import CompileCost
from benchmarks.subject.subject import content_sha256

__all__ = ["DEFAULT_LIMIT_BYTES", "ArtefactCache", "CompileCost", "default_folder", "device_identity"]

DEFAULT_LIMIT_BYTES = 4 << 30

_FORMAT = 1
_SUFFIX = ".artefact"
_PARTIAL = ".partial"
_ABANDONED_S = 3600.0
_LONGEST_HEADER_BYTES = 1 << 16
_CPU_FACTS = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant", "CPU revision")


class _Header(Record):
    format: int
    key: str
    made_of: dict[str, object]
    blob_sha256: str
    blob_bytes: NonNegativeInt
    compiled_ns: PositiveInt


class ArtefactCache:
    """Compiles through a folder of compiled models.

    Parameters
    ----------
    folder : Path, optional
        Made when needed, for its owner alone; see `default_folder`.
    limit_bytes : int, default=4 GiB
        Largest sum of file sizes; beyond it the files that were used longest ago go.
    clock : callable
        Gives nanoseconds: durations.
    now : callable
        Gives seconds since the epoch: which file was used when.
    device : callable
        Gives the identity of a device, see `device_identity`.

    Raises
    ------
    SettingError
        The limit is negative, or no folder is given and there is no home directory.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        clock: Callable[[], int] = time.perf_counter_ns,
        now: Callable[[], float] = time.time,
        device: Callable[[Backend, str], Mapping[str, str | None]] | None = None,
    ) -> None:
        if limit_bytes < 0:
            raise SettingError(f"limit_bytes must not be negative, got {limit_bytes}")
        self._folder = folder or default_folder()
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._now = now
        self._device = device or device_identity

    def compile(
        self, backend: Backend, model: Path, options: CompileOptions, say: Callable[[str], None]
    ) -> tuple[CompiledModel, CompileCost]:
        """Load the model from the cache, or compile and store it.

        Parameters
        ----------
        backend : Backend
            Its runtime should be loaded, or loading it is counted.
        model : Path
            An ONNX file.
        options : CompileOptions
            See there.
        say : callable
            Takes one line where the cache could not be used as it should: a damaged file, a full disk.

        Raises
        ------
        BackendError
            The model cannot be compiled. A cache that cannot be used is no error.
        """
        if backend.why_no_artefacts:
            compiled, compiled_ns = self._timed(lambda: backend.compile(model, options))
            return compiled, CompileCost(compiled_ns=compiled_ns, from_cache=False, reason=backend.why_no_artefacts)
        made_of = self._made_of(backend, model, options)
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{key}{_SUFFIX}"
        if (found := self._load(path, key, backend, model, options, say)) is not None:
            return found
        compiled, compiled_ns = self._timed(lambda: backend.compile(model, options))
        try:
            blob = compiled.artefact()
        except ArtefactError as error:
            return compiled, CompileCost(compiled_ns=compiled_ns, from_cache=False, reason=str(error))
        header = _Header(
            format=_FORMAT,
            key=key,
            made_of=made_of,
            blob_sha256=hashlib.sha256(blob).hexdigest(),
            blob_bytes=len(blob),
            compiled_ns=compiled_ns,
        )
        reason, stored_bytes = "", None
        try:
            stored_bytes = self._store(path, header, blob)
        except OSError as error:
            reason = f"it cannot be stored in {self._folder}: {error.strerror or error}"
            say(f"the compiled model is not kept: {reason}")
        if stored_bytes is None and not reason:
            reason = f"it is larger than the limit of {self._limit_bytes} bytes"
        cost = CompileCost(compiled_ns=compiled_ns, stored_bytes=stored_bytes, from_cache=False, reason=reason)
        return compiled, cost

    def _made_of(self, backend: Backend, model: Path, options: CompileOptions) -> dict[str, object]:
        return {
            "format": _FORMAT,
            "package": _own_version(),
            "model_sha256": content_sha256(model),
            "backend": backend.name,
            "runtime": backend.availability(options.device).version,
            "options": asdict(options),
            "device": dict(self._device(backend, options.device)),
        }

    def _timed(self, action: Callable[[], CompiledModel]) -> tuple[CompiledModel, int]:
        start = self._clock()
        compiled = action()
        return compiled, max(1, self._clock() - start)

    def _load(
        self,
        path: Path,
        key: str,
        backend: Backend,
        model: Path,
        options: CompileOptions,
        say: Callable[[str], None],
    ) -> tuple[CompiledModel, CompileCost] | None:
        start = self._clock()
        try:
            header, blob = _read(path, key)
            compiled = backend.import_artefact(blob, model, options)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ArtefactError) as error:
            say(f"{path} is not used and written anew: {one_line(error)}")
            return None
        loaded_ns = max(1, self._clock() - start)
        with suppress(OSError):  # a folder that can only be read still serves
            os.utime(path, (self._now(), self._now()))
        return compiled, CompileCost(
            compiled_ns=header.compiled_ns,
            loaded_ns=loaded_ns,
            stored_bytes=path.stat().st_size,
            from_cache=True,
        )

    def _store(self, path: Path, header: _Header, blob: bytes) -> int | None:
        """Write and rename; give the size of the file, or None where it is larger than all that may be kept."""
        head = header.model_dump_json().encode() + b"\n"
        size = len(head) + len(blob)
        if size > self._limit_bytes:
            return None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=_PARTIAL, dir=self._folder)
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(head)
                file.write(blob)
            os.utime(partial, (self._now(), self._now()))
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._evict(path)
        return size

    def _evict(self, newest: Path) -> None:
        """Remove what was used longest ago beyond the limit, but not `newest`; and what killed writers left."""
        files = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process evicts as well
                facts = path.stat()
                if path.suffix == _SUFFIX:
                    files.append((path != newest, facts.st_mtime, facts.st_size, path))
                elif path.suffix == _PARTIAL and facts.st_mtime < self._now() - _ABANDONED_S:
                    path.unlink()
        total = sum(size for _, _, size, _ in files)
        for is_older, _, size, path in sorted(files, key=lambda file: file[1]):
            if total <= self._limit_bytes:
                return
            if is_older:
                path.unlink(missing_ok=True)
                total -= size


def default_folder(variables: Mapping[str, str] | None = None) -> Path:
    """Give ``$PRUNE_DEPLOY_CACHE``, else ``prune-deploy/artefacts`` in the user's cache folder (XDG).

    Parameters
    ----------
    variables : Mapping of str to str, optional
        Environment variables; those of the process by default.

    Raises
    ------
    SettingError
        None of them is set and there is no home directory.
    """
    known = os.environ if variables is None else variables
    if own := known.get("PRUNE_DEPLOY_CACHE"):
        return Path(own)
    shared = Path(known.get("XDG_CACHE_HOME", ""))
    if not shared.is_absolute():  # XDG: relative ones are to be ignored
        try:
            shared = Path(known["HOME"] if "HOME" in known else Path.home()) / ".cache"
        except RuntimeError as error:
            raise SettingError(
                "there is no home directory to keep compiled models in: set PRUNE_DEPLOY_CACHE"
            ) from error
    return shared / "prune-deploy" / "artefacts"


def device_identity(backend: Backend, device: str, root: Path = Path("/")) -> dict[str, str | None]:
    """Say what a compiled model is tied to: the CPU with all its instruction sets, or the GPU and its driver.

    Parameters
    ----------
    backend : Backend
        Names its GPUs.
    device : str
        See `CompileOptions`.
    root : Path, default="/"
        Where ``proc`` is.

    Returns
    -------
    dict of str to str or None
        None where the system does not tell. A CPU whose instruction sets are unknown is told apart by the host's name.
    """
    if device != "cpu":
        found = backend.availability(device).devices
        wanted = "cuda:0" if device == "cuda" else device
        name = next((item for item in found if item.startswith(wanted)), None)
        driver = _text(root / "proc/driver/nvidia/version")
        return {"device": device, "gpu": name, "driver": driver.splitlines()[0] if driver else None}
    facts = [line.partition(":") for line in (_text(root / "proc/cpuinfo") or "").splitlines()]
    said = sorted({f"{name.strip()}: {value.strip()}" for name, _, value in facts if name.strip() in _CPU_FACTS})
    return {
        "device": device,
        "machine": platform.machine(),
        "cpu": "\n".join(said) or None,
        "host": None if said else platform.node(),
    }


def _read(path: Path, key: str) -> tuple[_Header, bytes]:
    with path.open("rb") as file:
        head = file.readline(_LONGEST_HEADER_BYTES)
        try:
            header = _Header.model_validate_json(head)
        except ValidationError as error:
            raise ValueError("it has no header of ours") from error
        blob = file.read()
    if header.format != _FORMAT or header.key != key:
        raise ValueError("it was stored for something else")
    if len(blob) != header.blob_bytes:
        raise ValueError(f"it holds {len(blob)} bytes of {header.blob_bytes}")
    if hashlib.sha256(blob).hexdigest() != header.blob_sha256:
        raise ValueError("its content has changed since it was stored")
    return header, blob


def _own_version() -> str | None:
    try:
        return version("prune-deploy")
    except PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
