"""``deploy profile``: describes the board and measures a network cold, steady, for minutes, and at several settings.

`run` measures part by part and keeps everything in one record (`record`); all output is derived from it.
"""

__all__: list[str] = []
