"""How the measured process and its parent speak: one message is a line of JSON and the bytes of its arrays.

Both ends use pipes of their own. Nothing that a runtime prints can get between, and no side waits longer than its
deadline.
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

__all__ = ["Channel", "ChannelClosedError", "ChannelTimeoutError", "Message", "numpy_type"]

Message = dict[str, Any]
_CHUNK_BYTES = 1 << 20


class ChannelClosedError(Exception):
    """The other side has closed, or died."""


class ChannelTimeoutError(Exception):
    """The other side did not answer in time."""


def numpy_type(name: str) -> np.dtype[Any]:
    """Give the NumPy type called `name`; ``"bfloat16"`` and the like come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return kind


class Channel:
    """One end of a conversation.

    Parameters
    ----------
    reader, writer : int
        File descriptors of two pipes. They are made non-blocking and belong to the channel.
    """

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
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
            The other side is gone, or does not read.
        """
        deadline = _deadline(timeout_s)
        whole = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
        headers = [(name, array.dtype.name, array.shape) for name, array in whole.items()]
        self._write(json.dumps({**message, "arrays": headers}).encode() + b"\n", deadline)
        for array in whole.values():
            self._write(array.tobytes(), deadline)

    def receive(self, *, timeout_s: float | None = None) -> tuple[Message, dict[str, Array]]:
        """Read one message; the arrays are owned by the caller and may be written to.

        Raises
        ------
        ChannelClosedError, ChannelTimeoutError
            The other side is gone, or says nothing.
        """
        deadline = _deadline(timeout_s)
        while (end := self._rest.find(b"\n")) < 0:
            self._fill(deadline)
        message: Message = json.loads(bytes(self._rest[:end]))
        del self._rest[: end + 1]
        arrays: dict[str, Array] = {}
        for name, type_name, shape in message.pop("arrays"):
            kind = numpy_type(type_name)
            n_bytes = math.prod(shape) * kind.itemsize
            while len(self._rest) < n_bytes:
                self._fill(deadline)
            arrays[name] = np.frombuffer(self._rest[:n_bytes], kind).reshape(shape)
            del self._rest[:n_bytes]
        return message, arrays

    def close(self) -> None:
        """Close both pipes; a second call does nothing."""
        for descriptor in (self._reader, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self._writer = -1

    def _fill(self, deadline: float | None) -> None:
        _wait(self._reader, select.POLLIN, deadline)
        try:
            data = os.read(self._reader, _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ChannelClosedError
        self._rest += data

    def _write(self, data: bytes, deadline: float | None) -> None:
        view = memoryview(data)
        while view:
            _wait(self._writer, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._writer, view[:_CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise ChannelClosedError from error


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _wait(descriptor: int, event: int, deadline: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    left_ms = None if deadline is None else max(0.0, 1e3 * (deadline - time.monotonic()))
    if not poll.poll(left_ms):
        raise ChannelTimeoutError
