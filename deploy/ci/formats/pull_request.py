"""The comments below a pull request on GitHub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.reading.files import read_json
from deploy.ci.formats.web import Server, ServerError, field, number_of

__all__ = ["PullRequest", "pull_request_of"]

_BOT = "[bot]"
"""Suffix of the user name behind a job or app token, and of no other name; such a token cannot query its own user."""
_UNKNOWN = {401, 403, 404}


class PullRequest:
    """The conversation of one pull request.

    Parameters
    ----------
    server : Server
        Server with the token of the job.
    repository : str
        ``owner/name``.
    number : int
        Number of the pull request.
    """

    def __init__(self, server: Server, repository: str, number: int) -> None:
        self._server = server
        self._comments = f"repos/{repository}/issues/{number}/comments"
        self._comment = f"repos/{repository}/issues/comments"
        self._author: str | None = None

    def own(self, mark: str) -> list[int]:
        """Return the numbers of the comments that begin with `mark` and that the token's user wrote, oldest first."""
        author = self._who()

        def wrote(one: Mapping[str, Any]) -> bool:
            login = str(field(one, "user", "login"))
            return login == author if author else login.endswith(_BOT)

        marked = (one for one in self._server.pages(self._comments) if str(field(one, "body")).startswith(mark))
        return sorted(number_of(one) for one in marked if wrote(one))

    def create(self, body: str) -> int:
        """Write a comment, and return its number."""
        return number_of(self._server.ask("POST", self._comments, {"body": body}))

    def update(self, number: int, body: str) -> bool:
        """Replace a comment; False if it no longer exists."""
        return _there(self._server, "PATCH", f"{self._comment}/{number}", {"body": body})

    def delete(self, number: int) -> None:
        """Delete a comment; a missing one is not an error."""
        _there(self._server, "DELETE", f"{self._comment}/{number}")

    def _who(self) -> str:
        """Return the author of our comments, empty for a bot; the mark alone is no proof, as anyone can write it."""
        if self._author is None:
            try:
                self._author = str(field(self._server.ask("GET", "user"), "login") or "")
            except ServerError as error:
                if error.status not in _UNKNOWN:
                    raise
                self._author = ""
        return self._author


def pull_request_of(environment: Mapping[str, str]) -> int | None:
    """Return the number of the pull request that a job on GitHub runs for; None if there is none.

    Raises
    ------
    ServerError
        The event of the job cannot be read.
    """
    path = environment.get("GITHUB_EVENT_PATH")
    if not path:
        return None
    try:
        event = read_json(Path(path))
    except (OSError, ValueError) as error:
        raise ServerError(f"the event of the job cannot be read from GITHUB_EVENT_PATH: {error}") from error
    runs = field(event, "workflow_run", "pull_requests") or ()
    issue = field(event, "issue")
    told_of = (field(event, "pull_request"), issue if field(issue, "pull_request") else None, next(iter(runs), None))
    numbers = (field(one, "number") for one in told_of)
    return next((number for number in numbers if isinstance(number, int)), None)


def _there(server: Server, method: str, path: str, body: Mapping[str, Any] | None = None) -> bool:
    try:
        server.ask(method, path, body)
    except ServerError as error:
        if error.status not in {404, 410}:
            raise
        return False
    return True
