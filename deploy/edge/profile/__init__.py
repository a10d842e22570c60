"""``deploy profile``: what the board is, and how a network fares on it: cold, steady, for minutes, at which settings.

`run` measures part by part and keeps all in one record (`record`); what a person reads is derived from it.
"""

__all__: list[str] = []
