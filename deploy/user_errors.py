"""Top-level error handling: a user error is one line and exit code 2, a bug one line and 70, in child processes too.

SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, so that everything is cleaned up. A signal that is
ignored, as under ``nohup``, stays ignored.
"""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from deploy.errors import is_mistake
from deploy.exit_codes import DEFECT, READER_LEFT, USAGE, WRONG_ANSWERS
from deploy.files.printable import printable, printable_streams
from deploy.files.scratch import OUTSIDE
from prune_deploy import how_to_install

__all__ = ["guarded"]

_OPTIONAL = {
    "lightning_fabric",
    "onnx_ir",
    "onnxscript",
    "safetensors",
    "scipy",
    "sklearn",
    "timm",
    "torch",
    "torchvision",
}
_ENDINGS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PATIENCE_S = 10.0
"""Further signals within this time do not interrupt the clean-up."""
_LONGEST = 200
"""Characters of an exception that the line shows; the bug report has them all."""
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EISDIR, errno.ENOTDIR}
    | {errno.ENAMETOOLONG, errno.ELOOP}
)


def guarded(work: Callable[[], object], *, quiet: bool = False) -> NoReturn:
    """Call `work` and exit: a user error is one line on stderr and exit code 2, never a traceback.

    Any other exception is a bug: exit code 70, and the line names the file with the traceback. A signal is one line,
    and exit code 128 plus its number. Output is made `printable`.

    Parameters
    ----------
    work : callable
        Called without arguments.
    quiet : bool, default=False
        Print nothing for a signal: the parent, which passed it on, does.
    """
    with printable_streams(), _endings() as ending:
        try:
            work()
            _forget_reader()  # a signal may come while this waits for the reader
        except BaseException as error:  # noqa: BLE001 - a signal may turn into another one inside a library
            if ending.number or isinstance(error, KeyboardInterrupt):
                _interrupted(ending.number or signal.SIGINT, quiet=quiet)
            _explain(error, quiet=quiet)
    raise SystemExit(0)


class _EndedError(KeyboardInterrupt):
    """Raised by a signal. After a plain KeyboardInterrupt in code run from a string, Python kills itself by SIGINT."""


class _Ending:
    """Handler of the signals that end a command."""

    def __init__(self) -> None:
        self.number = 0
        self._raised_s = -_PATIENCE_S
        self._again: threading.Timer | None = None

    def __call__(self, number: int, _: object) -> None:
        if time.monotonic() - self._raised_s < _PATIENCE_S:
            return
        self._raised_s = time.monotonic()
        self.number = self.number or number
        raise _EndedError

    def swallowed(self, raised: sys.UnraisableHookArgs) -> None:
        """Send the signal again if it came where no exception can be raised, as in a destructor."""
        if not issubclass(raised.exc_type, KeyboardInterrupt) or not self.number:
            sys.__unraisablehook__(raised)
            return
        self._raised_s = -_PATIENCE_S
        self._again = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, self.number))
        self._again.daemon = True
        self._again.start()

    def done(self) -> None:
        """Stop sending: the command is at its end, and nothing would handle the signal."""
        if self._again is not None:
            self._again.cancel()


@contextmanager
def _endings() -> Iterator[_Ending]:
    ending = _Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    hook = sys.unraisablehook
    before = {number: signal.getsignal(number) for number in _ENDINGS}
    heeded = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    try:
        sys.unraisablehook = ending.swallowed
        for number in heeded:
            signal.signal(number, ending)
        yield ending
    finally:
        ending.done()
        for number in heeded:
            signal.signal(number, before[number])
        sys.unraisablehook = hook


def _interrupted(number: int, *, quiet: bool) -> NoReturn:
    what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    if not quiet:
        _say(f"{what}; what was finished is kept")
    _forget_reader()
    raise SystemExit(128 + number) from None


def _explain(error: BaseException, *, quiet: bool) -> NoReturn:
    """Say in one line what went wrong, and exit."""
    if isinstance(error, SystemExit):
        # From a child that a signal ended, or the command line's own silent exit on Ctrl-C.
        if number := next((one for one in _ENDINGS if error.code == 128 + one), None):
            _interrupted(number, quiet=quiet)
        _forget_reader()
        if isinstance(error.__context__, BrokenPipeError):  # typer exits with 1 then, which is a verdict here
            raise SystemExit(READER_LEFT) from None
        raise error
    if isinstance(error, BrokenPipeError):
        _forget_reader()
        raise SystemExit(READER_LEFT) from None
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        name = str(error.filename or "output")
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
        _say(f"{shown}: {(error.strerror or 'cannot be written').lower()}")
        raise SystemExit(USAGE) from None
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) in _OPTIONAL:
        _say(f"{name} is not installed, and this command needs it: {how_to_install('prune')}")
        raise SystemExit(USAGE) from None
    classes = {(kind.__module__, kind.__name__) for kind in type(error).__mro__}
    if not is_mistake(error):
        summary = " ".join(f"{type(error).__name__}: {error}".split())
        _say(f"this is a bug in prune-deploy ({summary[:_LONGEST]}); please report it with {_written(error)}")
        raise SystemExit(DEFECT) from None
    _say(" ".join(str(error).split()))
    wrong = ("benchmarks.errors", "WrongAnswersError") in classes
    raise SystemExit(WRONG_ANSWERS if wrong else USAGE) from None


def _forget_reader() -> None:
    """Flush standard output; if nobody reads it any more, that does not change the exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _written(error: BaseException) -> str:
    """Write the bug report, and return where it is."""
    about = f"{' '.join(sys.argv)}\nPython {platform.python_version()} on {platform.platform()}\n\n"
    text = about + "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="prune-deploy-bug-",
            suffix=".txt",
            dir=os.environ.get(OUTSIDE),
            delete=False,
            encoding="utf-8",
        ) as report:
            report.write(printable(text, "\n\t"))
    except OSError:
        sys.stderr.write(text)
        return "what stands above"
    return report.name


def _say(message: str) -> None:
    with suppress(OSError):  # a terminal that was closed
        sys.stderr.write(f"deploy: {printable(message)}\n")
