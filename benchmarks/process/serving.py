"""The child's side of `benchmarks.process.child`: end with the parent, and answer its questions."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from backends.base import Array
from backends.errors import BackendError, RunError, one_line
from benchmarks.errors import BenchmarkError
from benchmarks.process.channel import Channel, ChannelClosedError, Message
from benchmarks.process.limits import die_first
from benchmarks.process.program import start

__all__ = ["Command", "die_with_parent", "end_with_parent", "serve", "serve_parent"]

Command = Callable[[Message, dict[str, Array]], tuple[Message, dict[str, Array]]]
"""Answers one question: JSON and arrays of any shape, in both directions."""
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """End this process, and everything it starts, with its parent; its standard input is empty from now on.

    A child started by `Child` must call this first: its standard input is a pipe that only the parent writes to.
    """
    _watch_parent()
    _empty_input()


def serve_parent(commands: Mapping[str, Command]) -> None:
    """Answer the parent's questions until it closes or ends; see `serve`.

    The pipes on standard input and output are reserved for this: printed output goes to standard error.

    Parameters
    ----------
    commands : Mapping of str to callable
        The available commands.
    """
    _watch_parent()
    channel = Channel(os.dup(0), os.dup(1))
    _empty_input()
    os.dup2(2, 1)
    serve(channel, commands)


def serve(channel: Channel, commands: Mapping[str, Command]) -> None:
    """Answer until the other side closes, or until a question fails; the error is then the last answer.

    Parameters
    ----------
    channel : Channel
        Source of the questions.
    commands : Mapping of str to callable
        The available commands. Errors of backends, of measuring and of memory are sent as answers; any other ends the
        process.
    """
    try:
        while True:
            question, arrays = channel.receive()
            try:
                answer, results = commands[question.pop("command")](question, arrays)
            except (BackendError, BenchmarkError) as error:
                channel.send({"error": one_line(error, limit=1000), "kind": type(error).__name__})
                return
            except MemoryError as error:
                channel.send({"error": f"out of memory: {one_line(error)}", "kind": RunError.__name__})
                return
            channel.send(answer, results)
    except ChannelClosedError:
        return


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to kill this process with its parent, even while stopped; elsewhere the closed pipe ends it.

    Parameters
    ----------
    parent : int, optional
        Process ID of the parent. If that has ended already, which Linux does not report, this process ends at once.
    """
    if sys.platform != "linux":
        return
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch_parent() -> None:
    """Start a process that waits for the parent's end and then kills this group, with anything a runtime started.

    It only polls for the hang-up of the pipe that only the parent writes to, so it uses no CPU and reads nothing.
    """
    die_with_parent()
    die_first()
    code = "import os, select; p = select.poll(); p.register(0, 0); p.poll(); os.killpg(0, 9)"
    start([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _empty_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
