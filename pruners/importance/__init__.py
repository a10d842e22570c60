"""Where the number per unit comes from: criteria, and what is done to their scores before a decision.

Scores are plain numbers, ``{group name: one float per unit}``; low means unimportant.
"""

__all__: list[str] = []
