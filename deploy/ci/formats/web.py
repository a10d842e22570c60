"""Requests to the server of a repository: JSON there and back, with a token that is shown nowhere."""

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
"""Characters of the server's own words that a message quotes."""


class ServerError(DeployError):
    """The server cannot be reached, or refuses.

    Parameters
    ----------
    message : str
        One line.
    status : int, optional
        What it answered; None: nothing.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """One server, spoken to with one token.

    Parameters
    ----------
    url : str
        Of its API.
    token : str
        Sent as `header` says; a redirection is not followed, so that no other server gets it.
    header : tuple of (str, str)
        Name of the header that carries the token, and what stands before it.
    pause : callable, optional
        Waits for some seconds.

    Raises
    ------
    ServerError
        The address is not one of the web, or the token has characters that no token has.
    """

    def __init__(
        self, url: str, token: str, header: tuple[str, str], *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerError(f"{url!r} is not the address of a server: it must begin with https://")
        # A message of the standard library would quote the whole header.
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
        """Send one request, and return the JSON of the answer; None where it is empty.

        What changes nothing when it is said twice is said again to a server that is busy.

        Raises
        ------
        ServerError
            It cannot be reached, refuses, or answers with something other than JSON.
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
            As of `ask`, or it answers with something else than a list.
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
        """Quote the server's own words, where it has some."""
        try:
            found = json.loads(error.read(_MOST_BYTES))
        except (OSError, HTTPException, ValueError):
            return ""
        message = found.get("message", found.get("error", "")) if isinstance(found, dict) else ""
        return f" ({self._hidden(str(message))[:_LONGEST]})" if message else ""

    def _hidden(self, text: str) -> str:
        return printable(text.replace(self._token, "***") if self._token else text)


def field(record: Any, *names: str) -> Any:
    """Return what stands in a record of an answer, however deep; None where it is missing."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def number_of(record: Any) -> int:
    """Return the number of what a server tells of.

    Raises
    ------
    ServerError
        It has none.
    """
    number = field(record, "id")
    if not isinstance(number, int):
        raise ServerError("the server reported a comment without its number")
    return number


class _NoRedirection(HTTPRedirectHandler):
    """Answer a redirection as what it is: the token is not for where it leads."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
