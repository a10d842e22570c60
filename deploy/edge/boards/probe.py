"""Probe a board before anything is sent; an unsuitable one gives one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from deploy.errors import BoardError

__all__ = ["ENVIRONMENT_BYTES", "Facts"]

OLDEST_GLIBC = (2, 28)
"""Of the wheels of NumPy and ONNX Runtime."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
PROCESSORS = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
ENVIRONMENT_BYTES = 450 << 20
"""Space that the environment takes, with what pip unpacks beside it."""
_PYTHON = re.compile(r"(\d{1,2})\.(\d{1,3}) (/[\x20-\x7e]+)")
_PYTHONS = f"{'.'.join(map(str, OLDEST_PYTHON))} to {'.'.join(map(str, NEWEST_PYTHON))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts about a board.

    Parameters
    ----------
    folder : str
        Our folder on it, whether it exists or not.
    python : str
        Path of the Python to use.
    version : str
        ``"3.11"``.
    machine : str
        ``"aarch64"``.
    utc_s : int or None
        Time of its clock, in seconds since 1970.
    free_bytes : int or None
        Free space on the disk of the folder.
    has_code, has_environment : bool
        Whether our code and environment are there already.
    """

    folder: str
    python: str
    version: str
    machine: str
    utc_s: int | None
    free_bytes: int | None
    has_code: bool
    has_environment: bool

    @classmethod
    def read(cls, board: str, lines: Sequence[str]) -> Self:
        """Parse and check the answer of the probe.

        Parameters
        ----------
        board : str
            Name of the board, for messages.
        lines : sequence of str
            Lines ``NAME=VALUE``.

        Raises
        ------
        BoardError
            The board cannot measure: the message says why, and what to do.
        """
        said: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition("=")
            said.setdefault(name, []).append(value.strip())
        one = {name: values[0] for name, values in said.items()}
        if "end" not in one:
            raise BoardError(f"{board} answers with garbage: the description of the board is incomplete")
        if one.get("system") != "Linux":
            raise BoardError(f"{board} runs {_shown(one.get('system'))}: a board has to run Linux")
        _require_processor(board, one)
        _require_glibc(board, one.get("libc", ""))
        python, version = _python(board, said.get("python", []), said.get("venv", []), said.get("environment", []))
        folder = one.get("folder", "")
        if not folder.startswith("/") or not folder.isprintable() or len(folder) > 1000:
            raise BoardError(
                f"{board}: the folder {_shown(folder)} cannot be used; give another: ssh://USER@BOARD/FOLDER"
            )
        _require_folder(board, folder, one)
        free = _number(one.get("free", ""))
        return cls(
            folder=folder,
            python=python,
            version=version,
            machine=PROCESSORS[one["machine"]],
            utc_s=_number(one.get("now", "")),
            free_bytes=None if free is None else free << 10,
            has_code="code" in one,
            has_environment=version in said.get("environment", []),
        )

    def require_room(self, board: str, needed: int, what: str) -> None:
        """Require that something fits on the disk.

        Raises
        ------
        BoardError
            It does not fit.
        """
        if self.free_bytes is not None and self.free_bytes < needed:
            raise BoardError(
                f"{board}: {self.free_bytes >> 20} MB are free where {self.folder} is, and {what} "
                f"{-(-needed >> 20)} MB: free some space, or name a folder on another disk: ssh://USER@BOARD/FOLDER"
            )


def _require_processor(board: str, one: dict[str, str]) -> None:
    machine, bits = one.get("machine", ""), one.get("bits", "")
    if machine not in PROCESSORS:
        raise BoardError(
            f"{board} has a processor {_shown(machine)}: ONNX Runtime has wheels for x86_64 and aarch64 (64 bits)"
        )
    if bits and bits != "64":
        raise BoardError(
            f"{board} runs a system of {_shown(bits)} bits on a {machine} processor: install the one of 64 bits "
            "(ONNX Runtime has no wheels for the other)"
        )


def _require_glibc(board: str, libc: str) -> None:
    found = re.fullmatch(r"glibc (\d{1,3})\.(\d{1,3})", libc)
    oldest = ".".join(map(str, OLDEST_GLIBC))
    if found is None:
        raise BoardError(
            f"{board} has no glibc ({_shown(libc)}; musl, as in Alpine?): the wheels of ONNX Runtime need glibc "
            f"{oldest} or newer, as Debian 10, Ubuntu 20.04 and what came after them have it"
        )
    if (int(found[1]), int(found[2])) < OLDEST_GLIBC:
        raise BoardError(
            f"{board} has {libc}: the wheels of ONNX Runtime need {oldest} or newer; install a newer system (Debian "
            "10, Ubuntu 20.04 or later)"
        )


def _python(board: str, found: Sequence[str], with_venv: Sequence[str], made: Sequence[str]) -> tuple[str, str]:
    """Choose the Python: one whose environment exists, else the first that is new enough."""
    pythons = [(match[3], (int(match[1]), int(match[2]))) for match in map(_PYTHON.fullmatch, found) if match]
    fitting = [(path, version) for path, version in pythons if OLDEST_PYTHON <= version <= NEWEST_PYTHON]
    if not fitting:
        has = f"Python {'.'.join(map(str, pythons[0][1]))}" if pythons else "no python3"
        raise BoardError(
            f"{board} has {has}: prune-deploy needs Python {_PYTHONS}; install one there (apt install python3 "
            "python3-venv, or uv python install 3.12 without root)"
        )
    for path, version in fitting:
        if (name := ".".join(map(str, version))) in made:
            return path, name
    for path, version in fitting:
        if path in with_venv:
            return path, ".".join(map(str, version))
    raise BoardError(f"{board}: its Python has no venv with pip in it: run there: sudo apt install python3-venv")


def _require_folder(board: str, folder: str, one: dict[str, str]) -> None:
    state = one.get("state", "")
    if "unwritable" in one:
        raise BoardError(
            f"{board}: {folder} cannot be made, this user may not write to {_shown(one['unwritable'])}; name another "
            "folder: ssh://USER@BOARD/FOLDER"
        )
    if state not in {"absent", "empty", "ours"}:
        why = "belongs to another user, or is not a folder" if state == "foreign" else "holds something else"
        raise BoardError(f"{board}: {folder} {why}; name another folder: ssh://USER@BOARD/FOLDER")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def _shown(text: str | None) -> str:
    return repr((text or "")[:60])
