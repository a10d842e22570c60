"""Board address ``ssh://USER@BOARD:PORT/FOLDER``: which board, and which folder on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from deploy.errors import BoardError

__all__ = ["Address"]

_FORM = "write ssh://BOARD, ssh://USER@BOARD:PORT or ssh://USER@BOARD/FOLDER"
# No leading hyphen: ssh would take it for an option.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?", re.ASCII)
_FOLDER = re.compile(r"/(?:~/)?[A-Za-z0-9_.+/-]*[A-Za-z0-9_.+-]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A board, as the system's ``ssh`` knows it.

    Parameters
    ----------
    host : str
        Host name or IP address, or a ``Host`` of ``~/.ssh/config``.
    user : str
        User name; empty: ssh decides.
    port : int or None
        Port; None: ssh decides.
    folder : str
        Our folder on the board, absolute or below ``~/``; empty: in the user's cache.
    """

    host: str
    user: str = ""
    port: int | None = None
    folder: str = ""

    @classmethod
    def read(cls, text: str) -> Address:
        """Parse the URL of a board.

        Raises
        ------
        BoardError
            The URL has another form, or contains a password.
        """
        if not text.isprintable():  # `urlsplit` drops line breaks
            raise BoardError(f"--on {text!r} does not name a board: {_FORM}")
        try:
            parts = urlsplit(text)
            host, user, port = parts.hostname or "", parts.username or "", parts.port
        except ValueError as error:
            raise BoardError(f"--on {text!r}: {error}; {_FORM}") from error
        if parts.scheme != "ssh" or parts.query or parts.fragment or not host:
            raise BoardError(f"--on {text!r} does not name a board: {_FORM}")
        if parts.password is not None:
            raise BoardError(
                "--on: a password on a command line can be read by everyone: use a key (ssh-keygen, ssh-copy-id)"
            )
        # `urlsplit` returns the name in lower case; a Host of ~/.ssh/config may have capitals.
        bare = parts.netloc.rpartition("@")[2]
        host = bare[: len(host)] if not bare.startswith("[") else host
        folder = "" if parts.path in {"", "/"} else parts.path.rstrip("/")
        if not _HOST.fullmatch(host):
            raise BoardError(f"--on {text!r}: {host!r} is not a valid name of a board; {_FORM}")
        if user and not _USER.fullmatch(user):
            raise BoardError(f"--on {text!r}: {user!r} is not a valid name of a user; {_FORM}")
        if folder and (not _FOLDER.fullmatch(folder) or ".." in folder.split("/")):
            raise BoardError(
                f"--on {text!r}: the folder {folder!r} must be absolute or begin with /~/, and consist of letters, "
                "digits and _.+-"
            )
        return cls(host, user, port, folder[1:] if folder.startswith("/~/") else folder)

    @property
    def words(self) -> list[str]:
        """Arguments of ssh, after its options, that name the board."""
        named = ["-l", self.user] if self.user else []
        named += [] if self.port is None else ["-p", str(self.port)]
        return [*named, "--", self.host]

    @property
    def login(self) -> str:
        """Command to log in there: ``"ssh -p 2222 pi@board"``."""
        port = "" if self.port is None else f"-p {self.port} "
        return f"ssh {port}{f'{self.user}@' if self.user else ''}{self.host}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        folder = f"/{self.folder}" if self.folder.startswith("~") else self.folder
        user, port = f"{self.user}@" if self.user else "", "" if self.port is None else f":{self.port}"
        return f"ssh://{user}{host}{port}{folder}"
