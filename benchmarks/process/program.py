"""Run external programs, such as git, and return their output. Our own use `benchmarks.process.child`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import WorkerError

__all__ = ["Ran", "run_program", "start"]


class Ran(NamedTuple):
    """Result of a program that ended.

    Parameters
    ----------
    code : int
        Its exit code, negative if a signal killed it.
    output, errors : bytes
        Its standard output and standard error.
    """

    code: int
    output: bytes
    errors: bytes


def start(program: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process, with the options of `subprocess.Popen`. All processes are started here."""
    return subprocess.Popen(program, **options)


def run_program(
    program: Sequence[str],
    *,
    given: bytes = b"",
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: Path | None = None,
) -> Ran:
    """Run a program without a terminal and wait for its end.

    Parameters
    ----------
    program : sequence of str
        Its name or path, and its arguments.
    given : bytes, optional
        Its standard input.
    timeout_s : float, default=60.0
        Seconds until it is killed.
    environment : Mapping of str to str, optional
        All its variables; by default those of this process.
    folder : Path, optional
        Working directory; by default the current one.
    output : Path, optional
        A file for its standard output, which may be large.

    Raises
    ------
    WorkerError
        There is no such program, it cannot be started, or it did not end in time.
    """
    name = Path(program[0]).name
    with ExitStack() as stack:
        written = subprocess.PIPE if output is None else stack.enter_context(output.open("wb"))
        try:
            process = start(
                program, stdin=subprocess.PIPE, stdout=written, stderr=subprocess.PIPE, env=environment, cwd=folder
            )
        except FileNotFoundError as error:
            raise WorkerError(f"program {name!r} was not found: install it") from error
        except OSError as error:
            raise WorkerError(f"{name} cannot be started: {error.strerror or error}") from error
        stack.enter_context(process)
        try:
            printed, errors = process.communicate(given, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise WorkerError(f"{name} did not finish in {timeout_s:g} s; it was killed") from error
        finally:
            process.kill()
    return Ran(process.returncode, printed or b"", errors)
