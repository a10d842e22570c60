"""Boards at the edge: what one is and how a network fares on it (`profile`), and how one is reached (`boards`)."""

__all__: list[str] = []
