"""A mistake of the user is one line and exit code 2, never a traceback: for the command and for processes it starts."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from deploy.exit_codes import INTERRUPTED, READER_LEFT, USAGE, WRONG_ANSWERS

__all__ = ["guarded"]

# Recognised by name, so that answering a mistake imports no package that the command itself did not need.
_USER_ERRORS = {
    ("backends.errors", "BackendError"),
    ("benchmarks.errors", "BenchmarkError"),
    ("deploy.errors", "DeployError"),
    ("pruners.errors", "PruneError"),
}
_INTERRUPTED = "interrupted; what was finished is kept"
_DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}


def guarded(work: Callable[[], object]) -> NoReturn:
    """Do `work` and exit: a mistake of the user is one line on stderr and exit code 2, never a traceback."""
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
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            _say(f"{error.filename or 'output'}: {(error.strerror or 'cannot be written').lower()}")
            raise SystemExit(USAGE) from None
        classes = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
        if not classes & _USER_ERRORS:
            raise
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


def _say(message: str) -> None:
    sys.stderr.write(f"deploy: {message}\n")
