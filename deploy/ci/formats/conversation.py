"""Keep one comment of ours in a conversation: written once, then updated in place."""

from __future__ import annotations

from typing import Literal, Protocol

__all__ = ["Conversation", "put"]


class Conversation(Protocol):
    """The comments below a pull or merge request."""

    def own(self, mark: str) -> list[int]:
        """Return the numbers of the comments that begin with `mark` and that the token's user wrote, oldest first."""

    def create(self, body: str) -> int:
        """Write a comment, and return its number."""

    def update(self, number: int, body: str) -> bool:
        """Replace a comment; False if it no longer exists."""

    def delete(self, number: int) -> None:
        """Delete a comment; a missing one is not an error."""


def put(conversation: Conversation, mark: str, body: str) -> Literal["created", "updated"]:
    """Update the comment that begins with `mark`, or create it; only one remains even if several jobs do so at once.

    Parameters
    ----------
    conversation : Conversation
        Where to post.
    mark : str
        First line of `body`.
    body : str
        The new text.

    Raises
    ------
    ServerError
        The server cannot be reached or refuses.
    """
    if _update(conversation, conversation.own(mark), body):
        return "updated"
    written = conversation.create(body)
    # Another job may have written one in the meantime: the older one is kept.
    found = conversation.own(mark)
    if found and found[0] != written and _update(conversation, found, body):
        return "updated"
    return "created"


def _update(conversation: Conversation, found: list[int], body: str) -> bool:
    """Update the oldest one that still exists, and delete the others."""
    for index, number in enumerate(found):
        if conversation.update(number, body):
            for other in found[index + 1 :]:
                conversation.delete(other)
            return True
    return False
