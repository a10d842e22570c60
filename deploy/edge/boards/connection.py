"""Connection to a board: the system's ``ssh``, with its configured keys, agents, hosts and jumps.

Host keys are always verified, there are no prompts, and nothing of this machine (agent, ports, display) is forwarded to
the board. One connection is opened and shared by all calls, over a socket in a folder private to this command.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.errors import NoAnswerError, WorkerError
from benchmarks.process.child import last_words
from benchmarks.process.foreign import Foreign
from deploy.edge.boards.address import Address
from deploy.edge.boards.answers import Answers
from deploy.errors import BoardError

__all__ = ["Connection", "ConnectionLostError", "Ended"]

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "GSSAPIDelegateCredentials=no",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "EscapeChar=none",
    "LogLevel=ERROR",
)
_ENVIRONMENT = {"SSH_ASKPASS_REQUIRE": "never"}
_FAILED = 255
"""Exit code of ssh itself."""
_LONGEST_SOCKET = 80
"""Limit of a socket path, in bytes: Unix allows 104 to 108, and ssh adds 17."""
_OPENING_S = 40.0
_LOOK_S = 0.02
_BECOME = """sh -c 'eval "$(printf %b "$1")"' sh"""
"""A shell that turns into the command in its first argument; the second is the last word of that command."""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-")


class ConnectionLostError(BoardError):
    """The connection broke, or could not be opened."""


class Ended(NamedTuple):
    """How a command on the board ended.

    Parameters
    ----------
    code : int
        Its exit code.
    words : str
        The end of its standard error, printable.
    received : bool
        Whether an announced file was received completely.
    sha256 : str
        Hash of that file.
    """

    code: int
    words: str
    received: bool
    sha256: str


class Connection:
    """Open connection to a board, used in a ``with`` statement, which ends all its local processes.

    Parameters
    ----------
    address : Address
        Address of the board.

    Raises
    ------
    BoardError
        There is no ``ssh`` on this machine.
    ConnectionLostError
        The board cannot be reached, its host key is not the known one, or it accepts none of our keys.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._stack = ExitStack()
        self._shared: list[str] = []

    def __enter__(self) -> Self:
        if shutil.which("ssh") is None:
            raise BoardError("--on needs the command ssh: install the OpenSSH client (apt install openssh-client)")
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ssh-")))
        socket = folder / "s"
        if len(str(socket).encode()) > _LONGEST_SOCKET:
            return  # each call opens its own connection
        words = ["ssh", *_options("ControlMaster=yes", "ControlPersist=no", f"ControlPath={socket}"), "-N"]
        master = self._stack.enter_context(
            Foreign([*words, *self.address.words], who=str(self.address), environment=_ENVIRONMENT)
        )
        give_up_s = time.monotonic() + _OPENING_S
        while not socket.exists():
            if (code := master.poll()) is not None:
                raise self._lost(master.output(), code)
            if time.monotonic() > give_up_s:
                raise ConnectionLostError(f"{self.address}: no connection in {_OPENING_S:g} s")
            time.sleep(_LOOK_S)
        self._shared = ["ControlMaster=no", f"ControlPath={socket}"]

    def run(
        self,
        words: Sequence[str],
        hear: Callable[[str], bool],
        *,
        feed: Iterable[bytes] = (),
        silence_s: float = 60.0,
        beat: bytes = b"",
        file: Callable[[Answers], None] | None = None,
    ) -> Ended:
        """Run a command on the board whose answer starts with its last word.

        Parameters
        ----------
        words : sequence of str
            The command; one more word is added, which it must print first, on its own line.
        hear : callable
            Receives each following line; returns True if it was the last one.
        feed : iterable of bytes
            Standard input of the command.
        silence_s : float, default=60.0
            Seconds after which a silent board is given up.
        beat : bytes
            Written every ten seconds after the feed, to show the board that the caller is alive; without it the
            command's standard input is closed.
        file : callable, optional
            Receives the `Answers`, whose `receive` may be called while lines are heard.

        Raises
        ------
        ConnectionLostError
            The connection broke before the command ended.
        BoardError
            The answer is garbage, or too long.
        """
        token = secrets.token_hex(16)
        answers = Answers(str(self.address), token, hear)
        if file is not None:
            file(answers)
        line = ["ssh", "-T", *_options(*self._shared), *self.address.words, _command(words, token)]
        whole = False
        with Foreign(line, who=str(self.address), environment=_ENVIRONMENT) as program:
            try:
                program.exchange(feed, answers.take, silence_s=silence_s, beat=beat)
                code = program.finish()
            except NoAnswerError as error:
                raise ConnectionLostError(f"{self.address}: it sent nothing for {silence_s:g} s") from error
            except WorkerError as error:
                raise BoardError(str(error)) from error
            finally:
                whole = answers.close()
            said = program.output()
        if code == _FAILED or code < 0:
            raise self._lost(said, code)
        if not answers.begun:
            words = last_words(said) or last_words(answers.before) or "no answer"
            raise BoardError(f"{self.address} does not run commands: {words} (exit code {code})")
        return Ended(code, last_words(said), whole, answers.sha256)

    def _lost(self, said: str, code: int) -> ConnectionLostError:
        """Return the error that says in one line why ssh gave up."""
        lower, words = said.lower(), last_words(said) or f"ssh ended with exit code {code}"
        login, where = self.address.login, self.address
        if "identification has changed" in lower:
            advice = (
                "the host key of the board is not the known one: somebody may be intercepting the connection, or the "
                "board was set up again; find out which before you run ssh-keygen -R on its name"
            )
        elif "host key is known" in lower or "host key verification failed" in lower:
            advice = f"its host key is not known here: run {login} once and compare the fingerprint that it shows"
        elif "permission denied" in lower or "too many authentication failures" in lower:
            advice = (
                f"{words}: it takes none of the keys that can be used without asking: ssh-copy-id, and ssh-add for "
                "a key with a passphrase"
            )
        else:
            advice = f"{words}; {login} has to work without prompts"
        return ConnectionLostError(f"{where}: {advice}")


def _options(*more: str) -> list[str]:
    return [word for option in (*_OPTIONS, *more) for word in ("-o", option)]


def _command(words: Sequence[str], token: str) -> str:
    """Quote a command and a last word so that every login shell passes them on unchanged.

    Characters that shells read differently are written as octal codes: csh ends quoted strings at the line end and
    takes ``!`` for history, fish has backslashes in quotes.
    """
    line = f'exec {" ".join(map(shlex.quote, words))} "$2"'
    written = "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in line.encode())
    return f"{_BECOME} '{written}' {token}"
