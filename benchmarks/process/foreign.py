"""A long-running external program as a child process: fed, read within bounds, and ended with its parent."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from benchmarks.errors import NoAnswerError, WorkerError
from benchmarks.process.child import Child
from benchmarks.process.waiting import look

__all__ = ["Foreign"]

_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Python code that becomes the program by exec, which then dies with its parent and does not ignore SIGPIPE."""
_MOST_WORDS_BYTES = 1 << 20
"""Limit of standard error, which is stored in a file."""
_BLOCK = 1 << 16
_TURN_S = 1.0
_LOOK_S = 0.1


class Foreign(Child):
    """A program fed on standard input that answers on standard output; use it in a ``with`` statement.

    It has no terminal, so it cannot prompt the user.

    Parameters
    ----------
    words : sequence of str
        Its name, looked up in ``PATH``, and its arguments.
    who : str
        What it does, as the subject of its error messages.
    environment : Mapping of str to str, optional
        Variables to set or replace.
    """

    def __init__(self, words: Sequence[str], *, who: str, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(["-I", "-S", "-c", _BECOME, *words], who=who, environment=environment)

    def _stdout(self) -> int:
        return subprocess.PIPE

    def exchange(
        self,
        feed: Iterable[bytes],
        take: Callable[[bytes], bool],
        *,
        silence_s: float,
        beat: bytes = b"",
        beat_s: float = 10.0,
    ) -> None:
        """Feed it and take its output, each as fast as the other side allows, until it closes or `take` ends it.

        Parameters
        ----------
        feed : iterable of bytes
            Input to write.
        take : callable
            Receives its output; True ends the exchange.
        silence_s : float
            Seconds without a byte in either direction after which it is killed.
        beat : bytes
            Written every `beat_s` seconds after the feed; if empty, its input is closed after the feed instead.
        beat_s : float, default=10.0
            Seconds between beats.

        Raises
        ------
        NoAnswerError
            It was silent for too long.
        WorkerError
            It wrote more than a mebibyte to standard error.
        """
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        os.set_blocking(sink.fileno(), False)
        chunks = iter(feed)
        rest, moved_s, beat_due_s = b"", time.monotonic(), time.monotonic() + beat_s
        feeding = True
        while True:
            if not rest and feeding:
                rest = _next(chunks)
                feeding = bool(rest)
                if not feeding and not beat:
                    sink.close()
            now = time.monotonic()
            if not rest and beat and now >= beat_due_s:
                rest, beat_due_s = beat, now + beat_s
            poll = select.poll()
            poll.register(source, select.POLLIN)
            if rest:
                poll.register(sink, select.POLLOUT)
            ready = dict(poll.poll(1e3 * _TURN_S))
            look()
            if rest and sink.fileno() in ready:
                written = _write(sink.fileno(), rest)
                feeding, rest = feeding and written is not None, rest[written:] if written else rest
                if written is None:  # it has stopped reading; its answer says why
                    rest, beat = b"", b""
                elif feeding:
                    moved_s = time.monotonic()
            if source.fileno() in ready:
                block = os.read(source.fileno(), _BLOCK)
                if not block or take(block):
                    return
                moved_s = time.monotonic()
            self._require_few_words()
            if time.monotonic() - moved_s > silence_s:
                self.kill()
                raise NoAnswerError(f"{self.who}: no answer in {silence_s:g} s; it was ended")

    def finish(self, patience_s: float = 10.0) -> int:
        """Wait for its end after the exchange and return its exit code; kill it if it does not end.

        Raises
        ------
        WorkerError
            It wrote more than a mebibyte to standard error.
        """
        give_up_s = time.monotonic() + patience_s
        while not self._has_ended(_LOOK_S) and time.monotonic() < give_up_s:
            self._require_few_words()
        self.kill()
        return self._process.returncode

    def _require_few_words(self) -> None:
        if self._log is not None and os.fstat(self._log.fileno()).st_size > _MOST_WORDS_BYTES:
            self.kill()
            raise WorkerError(f"{self.who}: it floods standard error; it was ended")


def _next(chunks: Iterator[bytes]) -> bytes:
    """Return the next non-empty chunk; empty at the end."""
    return next(filter(None, chunks), b"")


def _write(descriptor: int, data: bytes) -> int | None:
    """Write as much as the pipe takes and return how much; None if its reader is gone."""
    with suppress(BlockingIOError):
        try:
            return os.write(descriptor, data[:_BLOCK])
        except BrokenPipeError:
            return None
    return 0
