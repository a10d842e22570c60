"""Read the board from /proc and /sys: its hardware (`identity`) and its current state (`watch`).

Every reader takes the folder that contains ``proc``, ``sys`` and ``etc``. Values the board does not report are None or
empty, never guessed.
"""

__all__: list[str] = []
