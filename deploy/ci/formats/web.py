"""JSON requests to the server of a repository, with a token that is never shown."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from deploy.errors import DeployError
from deploy.files.printable import printable

__all__ = ["Server", "ServerError", "field", "number_of"]

_PATIENCE_S = 20.0
_MOST_BYTES = 32 * 2**20
_ATTEMPTS = 3
_BUSY = {429, 502, 503, 504}
_LONGEST = 200
"""Maximum characters that a message quotes from the server."""


class ServerError(DeployError):
    """The server cannot be reached or refuses.

    Parameters
    ----------
    message : str
        One line.
    status : int, optional
        HTTP status of the answer; None: no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A client for one server with one token.

    Parameters
    ----------
    url : str
        Address of its API.
    token : str
        Sent in `header`; redirects are not followed, so no other server gets it.
    header : tuple of (str, str)
        Name of the header that carries the token, and the prefix of the token.
    pause : callable, optional
        Waits for the given number of seconds.

    Raises
    ------
    ServerError
        The address is not an http(s) one, or the token has characters that no token has.
    """

    def __init__(
        self, url: str, token: str, header: tuple[str, str], *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerError(f"{url!r} is not the address of a server: it must begin with https://")
        # An error message of the standard library would quote the whole header.
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ServerError("the token has characters that tokens never have: was it copied with a line break?")
        name, before = header
        self._url, self._token, self._pause = url.rstrip("/"), token, pause
        self._host = parts.hostname
        self._headers = {
            name: f"{before}{token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "prune-deploy",
        }
        self._opener = build_opener(_NoRedirection)

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """Send one request, and return the JSON of the answer; None if it is empty.

        Idempotent requests are retried if the server is busy.

        Raises
        ------
        ServerError
            The server cannot be reached, refuses, or answers with something other than JSON.
        """
        attempts = 1 if method == "POST" else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                return self._once(method, path, body, query)
            except ServerError as error:
                if attempt == attempts or error.status not in _BUSY:
                    raise
                self._pause(2.0**attempt)
        raise AssertionError("unreachable")

    def pages(self, path: str, query: Mapping[str, Any] | None = None, size: int = 100) -> list[dict[str, Any]]:
        """Return the entries of all pages of a list.

        Raises
        ------
        ServerError
            As for `ask`, or the answer is not a list.
        """
        entries: list[dict[str, Any]] = []
        for page in range(1, 1000):
            found = self.ask("GET", path, query={**(query or {}), "per_page": size, "page": page})
            if not isinstance(found, list):
                raise ServerError(f"{self._host} answered with no list")
            entries += [one for one in found if isinstance(one, dict)]
            if len(found) < size:
                break
        return entries

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, Any] | None) -> Any:
        url = f"{self._url}/{path}{'?' if query else ''}{urlencode(query or {})}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(url, data, self._headers, method=method)
        try:
            with self._opener.open(request, timeout=_PATIENCE_S) as answer:
                text = answer.read(_MOST_BYTES)
        except HTTPError as error:
            with error:
                said = self._said(error)
            raise ServerError(f"{self._host} answered {error.code}{said} to {method} {path}", error.code) from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServerError(self._hidden(f"{self._host} cannot be reached: {reason}")) from None
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise ServerError(f"{self._host} answered {method} {path} with something other than JSON") from None

    def _said(self, error: HTTPError) -> str:
        """Return the server's error message in parentheses, if there is one."""
        try:
            found = json.loads(error.read(_MOST_BYTES))
        except (OSError, HTTPException, ValueError):
            return ""
        message = found.get("message", found.get("error", "")) if isinstance(found, dict) else ""
        return f" ({self._hidden(str(message))[:_LONGEST]})" if message else ""

    def _hidden(self, text: str) -> str:
        return printable(text.replace(self._token, "***") if self._token else text)


def field(record: Any, *names: str) -> Any:
    """Return a possibly nested field of a record; None if missing."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def number_of(record: Any) -> int:
    """Return the number of a record.

    Raises
    ------
    ServerError
        The record has none.
    """
    number = field(record, "id")
    if not isinstance(number, int):
        raise ServerError("the server reported a comment without its number")
    return number


class _NoRedirection(HTTPRedirectHandler):
    """Do not follow redirects, as the token is not meant for their target."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
