"""Agent on a board: reads one request from standard input and answers on standard output, one JSON object per line.

The answer starts with a token chosen by the caller, which separates it from what a login shell prints.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import select
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.edge.boards.resident import jobs, trees

__all__ = ["main"]

_FIRST_LOOK_S, _LOOK_S = 0.05, 1.0
"""First and longest pause between two polls of a job: it grows, to disturb a measurement as little as possible."""
_BEAT_S = 10.0
_PATIENCE_S = 60.0
"""A caller that is silent for this long counts as gone."""
_BLOCK = 1 << 16
_LINE = 2000


def main() -> None:
    """Answer one request: ``agent FOLDER TOKEN``."""
    folder, token = Path(sys.argv[1]), sys.argv[2]
    sys.stdout.write(f"{token}\n")
    sys.stdout.flush()
    os.umask(0o077)
    source = io.BufferedReader(_Caller())
    try:
        request = json.loads(source.readline(1 << 22))
        _ANSWERS[request["do"]](folder, request, source)
    except (OSError, trees.TreeError) as error:
        _say(error=getattr(error, "strerror", None) or str(error))
    except (ValueError, KeyError, TypeError):
        _say(error="the request is not whole")


class _Caller(io.RawIOBase):
    """Standard input of a caller that may vanish silently, as when a cable is pulled."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what is available; raises `TimeoutError` if nothing more comes."""
        if not select.select([0], [], [], _PATIENCE_S)[0]:
            raise TimeoutError(errno.ETIMEDOUT, "the caller fell silent")
        return os.readv(0, [buffer])


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _have(folder: Path, request: dict[str, Any], _: Any) -> None:
    """Answer which files are missing and how much space is free; remove what is no longer used."""
    idle = not jobs.any_runs(folder / "jobs")
    trees.remove_unused(folder / "env", [Path(sys.prefix).name], idle=idle)
    trees.remove_unused(folder / "code", [Path(sys.path[0]).name], idle=idle)
    missing = trees.missing(folder / "files", request["trees"], idle=idle)
    _say(missing=missing, free=shutil.disk_usage(folder).free)


def _put(folder: Path, request: dict[str, Any], source: Any) -> None:
    """Receive files."""
    trees.receive(folder / "files", request["tree"], request["files"], source)
    _say(done=True)


def _job(folder: Path, request: dict[str, Any], _: Any) -> None:
    """Start a job or pick it up, report its progress, and hand over its output."""
    with jobs.claim(folder / "jobs", request["name"]) as (job, is_new):
        if is_new:
            argv = [word.replace("@FILES@", str(folder / "files")) for word in request["argv"]]
            variables = {**request["variables"], "PRUNE_DEPLOY_STATE": str(folder / "state")}
            job.start([word.replace("@RESULT@", str(job.result)) for word in argv], variables)
        ended = job.state.get("ended")
        _say(
            job=job.folder.name,
            state="new" if is_new else job.state["state"],
            age_s=None if is_new else round(max(0.0, time.time() - ended)) if ended else None,
        )
        if _follow(job):
            _hand_over(job, folder)


def _follow(job: jobs.Job) -> bool:
    """Forward the messages of a job until it ends; return False if the caller is gone."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    at, heard_s, said_s, rest = 0, time.monotonic(), time.monotonic(), b""
    pause_s = _FIRST_LOOK_S
    while True:
        runs = job.runs()
        at, rest = _pass_on(job.log, at, rest, _say_line)
        if not runs:
            return True
        pause_s = min(1.2 * pause_s, _LOOK_S)
        for _, _ in poll.poll(1e3 * pause_s):
            if not os.read(0, _BLOCK):
                return False
            heard_s = time.monotonic()
        now = time.monotonic()
        if now - heard_s > _PATIENCE_S:
            return False
        if now - said_s > _BEAT_S:
            said_s = now
            _say()


def _pass_on(log: Path, at: int, rest: bytes, say: Callable[[str], None]) -> tuple[int, bytes]:
    if not log.exists() or log.stat().st_size <= at:
        return at, rest
    with log.open("rb") as file:
        file.seek(at)
        while block := file.read(_BLOCK):
            at += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                say(line.decode(errors="replace").replace("\0", "")[:_LINE])
            rest = rest[: 4 * _LINE]
    return at, rest


def _say_line(line: str) -> None:
    _say(line=line)


def _hand_over(job: jobs.Job, folder: Path) -> None:
    state = job.state
    result = next((one for one in (job.result, job.printed) if one.is_file() and one.stat().st_size), None)
    done = {
        "code": state.get("code") if state["state"] == "done" else None,
        "free": shutil.disk_usage(folder).free,
        "is_result": result == job.result,
    }
    if result is None:
        _say(done=done, size=0, sha256=hashlib.sha256().hexdigest())
        return
    with result.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        _say(done=done, size=file.tell(), sha256=digest)
        file.seek(0)
        while block := file.read(_BLOCK):
            sys.stdout.buffer.write(block)
    sys.stdout.flush()


def _end(folder: Path, request: dict[str, Any], _: Any) -> None:
    """End a job and remove it."""
    _say(gone=jobs.end(folder / "jobs", request["name"]))


_ANSWERS: dict[str, Callable[[Path, dict[str, Any], Any], None]] = {
    "have": _have,
    "put": _put,
    "job": _job,
    "end": _end,
}


if __name__ == "__main__":
    main()
