"""The way to a board: the system's ``ssh``, with the keys, agents, hosts and jumps that it is set up with.

Host keys are always verified, nothing ever asks a person, and nothing of this machine (its agent, its ports, its
display) is lent to the board. One connection is opened and shared by all that follows, over a socket in a folder of
this command alone.
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
"""Of a path, in bytes: Unix takes 104 to 108, and ssh adds 17 to it."""
_OPENING_S = 40.0
_LOOK_S = 0.02
_BECOME = """sh -c 'eval "$(printf %b "$1")"' sh"""
"""A shell that becomes the command that follows; its next argument is the last word of it."""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-")


class ConnectionLostError(BoardError):
    """The connection broke, or was never there."""


class Ended(NamedTuple):
    """How a command on the board ended.

    Parameters
    ----------
    code : int
        Its exit code.
    words : str
        The last of what it wrote to standard error, printable.
    received : bool
        Whether a file that it promised came whole.
    sha256 : str
        Hash of that file.
    """

    code: int
    words: str
    received: bool
    sha256: str


class Connection:
    """An open way to a board; to be used in a ``with`` statement, which ends every process of it here.

    Parameters
    ----------
    address : Address
        Where to.

    Raises
    ------
    BoardError
        There is no ``ssh`` on this machine.
    ConnectionLostError
        The board cannot be reached, its key is not the known one, or it takes none of ours.
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
            return  # each call opens a connection of its own
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
        """Run a command on the board, whose answer begins with the last of its words.

        Parameters
        ----------
        words : sequence of str
            The command; one more word is added, which it has to print first, on a line of its own.
        hear : callable
            Receives each line that follows; True where it was the last one.
        feed : iterable of bytes
            Its standard input.
        silence_s : float, default=60.0
            Seconds after which a board that says nothing is given up.
        beat : bytes
            Written every ten seconds after the feed, so that the board knows that somebody is there; without it
            the command's standard input is closed.
        file : callable, optional
            Receives the `Answers`, whose `receive` it may call while it hears.

        Raises
        ------
        ConnectionLostError
            The connection broke before the command ended.
        BoardError
            It answers with garbage, or with more than it may.
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
        """Say in one line why ssh gave up."""
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
    """Write a command, and a last word, so that every login shell hands them on as they are.

    What a shell may read in its own way stands there as a number: csh ends what is quoted with the line and takes
    ``!`` for history, fish has backslashes in quotes.
    """
    line = f'exec {" ".join(map(shlex.quote, words))} "$2"'
    written = "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in line.encode())
    return f"{_BECOME} '{written}' {token}"
