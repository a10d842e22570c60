"""Files written whole or not at all, and what is said of those that do not fit."""

__all__: list[str] = []
