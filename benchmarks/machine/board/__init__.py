"""What the board tells of itself in /proc and /sys: what it is (`identity`), and how it fares (`watch`).

Every reader takes the folder that holds ``proc``, ``sys`` and ``etc``. What the board does not tell is None or empty,
never guessed.
"""

__all__: list[str] = []
