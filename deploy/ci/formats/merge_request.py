"""The notes below a merge request on GitLab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from deploy.ci.formats.web import Server, ServerError, field, number_of

__all__ = ["MergeRequest"]


class MergeRequest:
    """The conversation of one merge request.

    Parameters
    ----------
    server : Server
        Server with a token that may write notes in the project.
    project : str
        Number of the project, or ``group/name``.
    number : str
        Number of the merge request in the project.
    """

    def __init__(self, server: Server, project: str, number: str) -> None:
        self._server = server
        self._notes = f"projects/{quote(project, safe='')}/merge_requests/{quote(number, safe='')}/notes"
        self._author: int | None = None

    def own(self, mark: str) -> list[int]:
        """Return the numbers of the notes that begin with `mark` and that the token's user wrote, oldest first."""
        if self._author is None:
            self._author = number_of(self._server.ask("GET", "user"))
        order = {"sort": "asc", "order_by": "created_at"}
        return sorted(
            number_of(one)
            for one in self._server.pages(self._notes, order)
            if str(field(one, "body")).startswith(mark) and field(one, "author", "id") == self._author
        )

    def create(self, body: str) -> int:
        """Write a note, and return its number."""
        return number_of(self._server.ask("POST", self._notes, {"body": body}))

    def update(self, number: int, body: str) -> bool:
        """Replace a note; False if it no longer exists."""
        return self._there("PUT", number, {"body": body})

    def delete(self, number: int) -> None:
        """Delete a note; a missing one is not an error."""
        self._there("DELETE", number)

    def _there(self, method: str, number: int, body: Mapping[str, Any] | None = None) -> bool:
        try:
            self._server.ask(method, f"{self._notes}/{number}", body)
        except ServerError as error:
            if error.status not in {404, 410}:
                raise
            return False
        return True
