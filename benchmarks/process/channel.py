"""Message channel between a child process and its parent: a message is a line of JSON and the bytes of its arrays.

Both ends use dedicated pipes, so that output printed by a runtime cannot get in between, and neither side waits longer
than its deadline. Anything that is not a message (a runtime may write to any descriptor) is rejected, never
interpreted.

An array of numbers is sent as its bytes; an array of text (NumPy type ``object``) as the lengths of its texts in UTF-8,
int64, then the texts.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from backends.base import Array
from benchmarks.process.waiting import look, part_of
from benchmarks.subject.dtypes import numpy_type

__all__ = [
    "Channel",
    "ChannelClosedError",
    "ChannelGarbageError",
    "ChannelTimeoutError",
    "Message",
]

Message = dict[str, Any]
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 26  # far more than any message needs


class ChannelClosedError(Exception):
    """The other side has closed, or died."""


class ChannelGarbageError(ChannelClosedError):
    """The received data is not a message, so nothing after it can be understood either."""


class ChannelTimeoutError(Exception):
    """The other side did not answer in time."""


class Channel:
    """One end of a conversation.

    Parameters
    ----------
    reader, writer : int
        File descriptors of two pipes. They are made non-blocking and belong to the channel.
    peer : int, optional
        A descriptor that becomes readable when the process at the other end is gone (`os.pidfd_open`). It ends the wait
        for a process that died but left children behind that hold its end of the pipes. The caller keeps owning it.
    """

    def __init__(self, reader: int, writer: int, *, peer: int | None = None) -> None:
        self._reader, self._writer, self._peer = reader, writer, peer
        self._rest = bytearray()
        for descriptor in (reader, writer):
            os.set_blocking(descriptor, False)

    def send(
        self, message: Message, arrays: Mapping[str, Array] | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Write one message.

        Raises
        ------
        ChannelClosedError, ChannelTimeoutError
            The other side is gone, or does not read in time.
        """
        deadline = _deadline(timeout_s)
        whole = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
        headers = [(name, array.dtype.name, array.shape) for name, array in whole.items()]
        self._write(json.dumps({**message, "arrays": headers}).encode() + b"\n", deadline)
        for array in whole.values():
            self._write(_texts_to_bytes(array) if array.dtype.hasobject else array.tobytes(), deadline)

    def receive(self, *, timeout_s: float | None = None) -> tuple[Message, dict[str, Array]]:
        """Read one message; the arrays are owned by the caller and may be written to.

        Raises
        ------
        ChannelClosedError, ChannelTimeoutError
            The other side is gone, or does not send in time.
        ChannelGarbageError
            The received data is not a message.
        """
        deadline = _deadline(timeout_s)
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > _HEADER_BYTES:
                raise ChannelGarbageError("bytes without end")
            self._fill(deadline)
        message, headers = _parse(bytes(self._rest[:end]))
        del self._rest[: end + 1]
        return message, {name: self._array(kind, shape, deadline) for name, kind, shape in headers}

    def close(self) -> None:
        """Close both pipes; a second call does nothing."""
        for descriptor in (self._reader, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self._writer = -1

    def _array(self, kind: np.dtype[Any], shape: tuple[int, ...], deadline: float | None) -> Array:
        size = math.prod(shape)
        if not kind.hasobject:
            return np.frombuffer(self._take(size * kind.itemsize, deadline), kind).reshape(shape)
        lengths = np.frombuffer(self._take(8 * size, deadline), np.int64).tolist()
        if min(lengths, default=0) < 0:
            raise ChannelGarbageError("a text of negative length")
        texts = np.empty(size, object)
        for index, length in enumerate(lengths):
            try:
                texts[index] = self._take(length, deadline).decode()
            except UnicodeDecodeError as error:
                raise ChannelGarbageError(f"a text that is none: {error}") from error
        return texts.reshape(shape)

    def _take(self, n_bytes: int, deadline: float | None) -> bytearray:
        while len(self._rest) < n_bytes:
            self._fill(deadline)
        taken = self._rest[:n_bytes]
        del self._rest[:n_bytes]
        return taken

    def _fill(self, deadline: float | None) -> None:
        peer_is_gone = _wait(self._reader, select.POLLIN, deadline, self._peer)
        try:
            data = os.read(self._reader, _CHUNK_BYTES)
        except BlockingIOError:
            if peer_is_gone:
                raise ChannelClosedError from None
            return
        if not data:
            raise ChannelClosedError
        self._rest += data

    def _write(self, data: bytes, deadline: float | None) -> None:
        view = memoryview(data)
        while view:
            peer_is_gone = _wait(self._writer, select.POLLOUT, deadline, self._peer)
            try:
                view = view[os.write(self._writer, view[:_CHUNK_BYTES]) :]
            except BlockingIOError:
                if peer_is_gone:
                    raise ChannelClosedError from None
            except BrokenPipeError as error:
                raise ChannelClosedError from error


def _texts_to_bytes(array: Array) -> bytes:
    encoded = [text.encode() for text in array.ravel().tolist()]
    return np.array([len(text) for text in encoded], np.int64).tobytes() + b"".join(encoded)


def _parse(line: bytes) -> tuple[Message, list[tuple[str, np.dtype[Any], tuple[int, ...]]]]:
    """Parse a header; anything else is garbage."""
    try:
        message: Message = json.loads(line)
        headers = [(str(name), numpy_type(kind), tuple(shape)) for name, kind, shape in message.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ChannelGarbageError(f"{line[:60]!r} is not a message") from error
    if not all(isinstance(size, int) and size >= 0 for _, _, shape in headers for size in shape):
        raise ChannelGarbageError(f"{line[:60]!r} has an impossible shape")
    return message, headers


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _wait(descriptor: int, event: int, deadline: float | None, peer: int | None) -> bool:
    """Wait until `descriptor` is ready or the process `peer` is gone; return whether it is gone."""
    poll = select.poll()
    poll.register(descriptor, event)
    if peer is not None:
        poll.register(peer, select.POLLIN)
    while True:
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        wait_s = part_of(left_s)
        ready = poll.poll(None if wait_s is None else 1e3 * wait_s)
        if ready:
            return any(number == peer for number, _ in ready)
        if wait_s == left_s:
            raise ChannelTimeoutError
        look()
