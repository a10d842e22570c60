"""A mistake of the user is one line and exit code 2, a defect of ours one line and 70: here and in child processes."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

from deploy.exit_codes import DEFECT, INTERRUPTED, READER_LEFT, USAGE, WRONG_ANSWERS

__all__ = ["guarded"]

# Recognised by name, so that answering a mistake imports no package that the command itself did not need.
_USER_ERRORS = {
    ("backends.errors", "BackendError"),
    ("benchmarks.errors", "BenchmarkError"),
    ("deploy.errors", "DeployError"),
    ("pruners.errors", "PruneError"),
}
_INTERRUPTED = "interrupted; what was finished is kept"
_LONGEST = 200
"""Characters of an exception that the line shows; the report has them all."""
_DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}


def guarded(work: Callable[[], object]) -> NoReturn:
    """Do `work` and exit: a mistake of the user is one line on stderr and exit code 2, never a traceback.

    Any other exception is a defect of ours: exit code 70, and the traceback is in a file that the line names.
    """
    try:
        work()
    except KeyboardInterrupt:
        _say(_INTERRUPTED)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # the command line's own answer to Ctrl-C, which says nothing
            _say(_INTERRUPTED)
        _forget_reader()
        if isinstance(ended.__context__, BrokenPipeError):  # its own answer to a reader that left is 1: a verdict here
            raise SystemExit(READER_LEFT) from None
        raise
    except BrokenPipeError:
        _forget_reader()
        raise SystemExit(READER_LEFT) from None
    except Exception as error:  # noqa: BLE001 - what is no mistake of the user is reported
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            _say(f"{error.filename or 'output'}: {(error.strerror or 'cannot be written').lower()}")
            raise SystemExit(USAGE) from None
        classes = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
        if not classes & _USER_ERRORS:
            summary = " ".join(f"{type(error).__name__}: {error}".split())
            _say(f"this is a bug in prune-deploy ({summary[:_LONGEST]}); please report it with {_written(error)}")
            raise SystemExit(DEFECT) from None
        _say(" ".join(str(error).split()))
        wrong = ("benchmarks.errors", "WrongAnswersError") in classes
        raise SystemExit(WRONG_ANSWERS if wrong else USAGE) from None
    _forget_reader()
    raise SystemExit(0)


def _forget_reader() -> None:
    """Write out what is left for standard output; where nobody reads it any more, that changes no exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _written(error: Exception) -> str:
    """Write the report of a defect, and return where it is."""
    about = f"{' '.join(sys.argv)}\nPython {platform.python_version()} on {platform.platform()}\n\n"
    text = about + "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="prune-deploy-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as report:
            report.write(text)
    except OSError:
        sys.stderr.write(text)
        return "what stands above"
    return report.name


def _say(message: str) -> None:
    sys.stderr.write(f"deploy: {message}\n")
