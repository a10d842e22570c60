"""A program of other people that goes on for long, held as a child of ours: fed, read within bounds, ended with us."""

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
"""Python that turns into the program: what dies with its parent, and a SIGPIPE that is not ignored, are inherited."""
_MOST_WORDS_BYTES = 1 << 20
"""Of standard error, which is kept in a file."""
_BLOCK = 1 << 16
_TURN_S = 1.0
_LOOK_S = 0.1


class Foreign(Child):
    """A program that is fed on standard input and answers on standard output; to be used in a ``with`` statement.

    It has no terminal: what would ask a person gets no answer.

    Parameters
    ----------
    words : sequence of str
        Its name, looked up in ``PATH``, and its arguments.
    who : str
        What it does, as the subject of its errors.
    environment : Mapping of str to str, optional
        Variables that are set or replaced.
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
        """Feed it and take what it answers, both as fast as the other side goes, until it closes or enough was taken.

        Parameters
        ----------
        feed : iterable of bytes
            What is written to it.
        take : callable
            Receives what it wrote; True ends the exchange.
        silence_s : float
            Seconds without a byte in either direction, after which it is given up.
        beat : bytes
            Written every `beat_s` seconds after the feed; without it its input is closed there.
        beat_s : float, default=10.0
            Seconds.

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
                if written is None:  # it reads no more; its answer says why
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
        """Wait for its end after the exchange, and return its exit code; one that goes on is killed.

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
    """Return what comes next and is not empty; empty at the end."""
    return next(filter(None, chunks), b"")


def _write(descriptor: int, data: bytes) -> int | None:
    """Write what the pipe takes, and return how much; None where nobody reads it any more."""
    with suppress(BlockingIOError):
        try:
            return os.write(descriptor, data[:_BLOCK])
        except BrokenPipeError:
            return None
    return 0
