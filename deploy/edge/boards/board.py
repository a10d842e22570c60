"""One board over one connection: install the package there, send files, run a command, fetch its output."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.process.child import last_words
from deploy.edge.boards.answers import Answers, garbage, is_size, message
from deploy.edge.boards.connection import Connection, Ended
from deploy.edge.boards.following import Fetched, Following, Job
from deploy.edge.boards.payload import Payload, archive
from deploy.edge.boards.probe import ENVIRONMENT_BYTES
from deploy.edge.boards.scripting import LONG_S, look, run_script
from deploy.edge.boards.trees import Tree
from deploy.errors import BoardError

__all__ = ["AGENT", "Board"]

Say = Callable[[str], None]

AGENT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from deploy.edge.boards.resident.agent import main; main()"
"""Python code that starts our agent on the board: ``python -I -c AGENT CODE FOLDER TOKEN``."""
_SLACK_BYTES = 64 << 20
"""Space that results and logs may take on the board."""
_SHOWN = 300
_FULL = "No space left"
_NOT_LOADED = 6
"""Exit code of install.sh."""
_BEAT = b"\n"
_CLOCK_S = 300.0
"""Larger clock differences from this machine are reported."""
_NOT_MAPPED = "failed to map segment"
"""Loader message for a disk that is mounted noexec."""


class Board:
    """A board that has been probed.

    Parameters
    ----------
    connection : Connection
        Connection to the board.
    payload : Payload
        Package files to install there.
    say, note : callable
        Receive one short line: for each step, and for remarks that matter afterwards.

    Raises
    ------
    BoardError
        The board cannot measure; the message says why, and what to do.
    """

    def __init__(self, connection: Connection, payload: Payload, say: Say, note: Say) -> None:
        self._connection = connection
        self._payload = payload
        self._say = say
        self._note = note
        self.address = connection.address
        self.facts = look(connection, payload)
        self._clock = _clock(self.facts.utc_s)
        if self._clock:
            note(f"{self.address}: {self._clock}, and so are the times in results")
        self._root = self.facts.folder
        self._code = f"{self._root}/code/{payload.name}"
        self._environment = f"{payload.environment}-{self.facts.version}"

    def prepare(self, wheels: dict[str, bytes]) -> None:
        """Install the package and create the environment, if missing.

        Parameters
        ----------
        wheels : dict of str to bytes
            Wheels to install; without any, pip on the board uses its own index.

        Raises
        ------
        BoardError
            The disk is full, or pip cannot install; nothing half-installed remains.
        """
        name = str(self.address)
        if not self.facts.has_environment:
            self.facts.require_room(name, ENVIRONMENT_BYTES, "the environment takes")
        self.facts.require_room(name, _SLACK_BYTES, "results take up to")
        if not self.facts.has_code:
            self._say("send the measuring half")
            data = self._payload.archive()
            words = (self._root, self._payload.name, str(len(data)), self.facts.python)
            ended, lines = run_script(self._connection, "push.sh", words, (data,))
            self._require(ended, lines, "it could not be put there")
        if not self.facts.has_environment:
            self._install(wheels)

    def _install(self, wheels: dict[str, bytes]) -> None:
        data = archive(wheels) if wheels else b""
        local = ["--no-index", "--find-links", "@WHEELS@"] if wheels else ["--retries", "2", "--timeout", "20"]
        words = (self._root, self._environment, self.facts.python, str(len(data)), *local, *self._payload.requirements)
        self._say("make the environment")
        ended, lines = run_script(
            self._connection, "install.sh", words, (data,), tell=self._say, silence_s=LONG_S, beat=_BEAT
        )
        said = [line for line in lines if line.strip()]
        errors = [line for line in said if line.startswith("ERROR:") or _FULL in line]
        if ended.code == _NOT_LOADED:
            away = any(_NOT_MAPPED in line for line in said)
            advice = "; nothing may be run from its disk (noexec): ssh://USER@BOARD/FOLDER on another" if away else ""
            self._require(ended, said, "what pip installed cannot be loaded there", advice)
        full = any(_FULL in line for line in errors)
        advice = "" if full else self._advice(bool(wheels))
        self._require(ended, errors[-1:] or said, "its pip does not install what measuring needs", advice)

    def _advice(self, has_wheels: bool) -> str:
        """Return advice for when pip finds nothing to install."""
        if has_wheels:
            return f"; the wheels have to be for Python {self.facts.version} on {self.facts.machine}"
        clock = f"; {self._clock}: an index is not trusted then, set it there (timedatectl set-ntp true)"
        return (clock if self._clock else "") + "; where the board has no index, bring the wheels: --wheels FOLDER"

    def send(self, trees: Sequence[Tree]) -> int:
        """Send what is not there yet, and return its size in bytes.

        Raises
        ------
        BoardError
            The files do not fit on the disk, or one changed in the meantime.
        """
        by_name = {tree.name: tree for tree in trees}
        (answer,) = self._ask({"do": "have", "trees": list(by_name)})
        missing, free = answer.get("missing"), answer.get("free")
        if not isinstance(missing, list) or not is_size(free):
            raise garbage(str(self.address))
        sent = [tree for name, tree in by_name.items() if name in missing]
        needed = sum(tree.size_bytes for tree in sent)
        if free < needed + _SLACK_BYTES:
            raise BoardError(
                f"{self.address}: {free >> 20} MB are free where {self._root} lies, and models and results take "
                f"{(needed + _SLACK_BYTES) >> 20} MB: free some space, or name a folder on another disk"
            )
        for tree in sent:
            self._say(f"send {tree.argument} ({tree.size_bytes / 1e6:.1f} MB)")
            self._ask({"do": "put", "tree": tree.name, "files": tree.sha256}, tree.archive())
        return needed

    def run(self, argv: Sequence[str], trees: Sequence[Tree], *, started: Callable[[Job], None], file: Path) -> Fetched:
        """Run a command, or pick up one that is running or finished, and fetch its output.

        Parameters
        ----------
        argv : sequence of str
            What follows ``deploy``; ``@FILES@`` stands for the folder of sent files, ``@RESULT@`` for the result.
        trees : sequence of Tree
            Files sent for it.
        started : callable
            Receives the job as soon as it exists.
        file : Path
            Receives the output of the command.

        Raises
        ------
        ConnectionLostError
            The connection broke; the job continues.
        BoardError
            The job was killed there, or the answer is garbage.
        """
        identity = json.dumps([list(argv), sorted(tree.name for tree in trees), self._payload.name, self._environment])
        name = hashlib.sha256(identity.encode()).hexdigest()[:24]
        following = Following(str(self.address), file, started, self._say, self._note)
        request = {"do": "job", "name": name, "argv": list(argv), "variables": _variables()}
        ended = self._agent(request, following.hear, beat=_BEAT, file=following.take)
        return following.fetched(ended)

    def end(self, job: Job) -> bool:
        """End a job, or remove a finished one; return whether it is gone from the board."""
        (answer,) = self._ask({"do": "end", "name": job.name})
        return answer.get("gone") is True

    def _ask(self, request: dict[str, Any], feed: Iterable[bytes] = ()) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []

        def hear(line: str) -> bool:
            answers.append(message(str(self.address), line))
            return False

        ended = self._agent(request, hear, feed)
        if ended.code or len(answers) != 1:
            raise garbage(str(self.address), ended.words)
        return answers

    def _agent(
        self,
        request: dict[str, Any],
        hear: Callable[[str], bool],
        feed: Iterable[bytes] = (),
        *,
        beat: bytes = b"",
        file: Callable[[Answers], None] | None = None,
    ) -> Ended:
        python = f"{self._root}/env/{self._environment}/bin/python"
        words = [python, "-I", "-c", AGENT, self._code, self._root]
        first = (json.dumps(request).encode() + b"\n",)
        return self._connection.run(words, hear, feed=chain(first, feed), beat=beat, file=file)

    def _require(self, ended: Ended, lines: Sequence[str], what: str, advice: str = "") -> None:
        if ended.code:
            lines = [line for line in lines if _FULL in line] or lines
            why = _brief(lines[-1]) if lines else ended.words or f"exit code {ended.code}"
            raise BoardError(f"{self.address}: {what}: {why}{advice}")


def _variables() -> dict[str, str]:
    """Return environment variables for the command, such as this terminal's width."""
    return {"COLUMNS": os.environ.get("COLUMNS", "80"), "PYTHONNOUSERSITE": "1"}


def _clock(utc_s: int | None) -> str:
    """Say how far the clock of a board is from ours; empty if it is close."""
    if utc_s is None or abs(ahead_s := utc_s - time.time()) <= _CLOCK_S:
        return ""
    days, hours, minutes = (int(abs(ahead_s) / unit_s) for unit_s in (86_400, 3600, 60))
    far = f"{days} days" if days else f"{hours} h" if hours else f"{minutes} min"
    return f"its clock is {far} {'ahead of' if ahead_s > 0 else 'behind'} this machine's"


def _brief(words: object) -> str:
    return last_words(str(words), _SHOWN)
