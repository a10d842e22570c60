"""Importance criteria: score every unit, and prepare the scores for a decision.

Scores are plain numbers, ``{group name: one float per unit}``; low means unimportant. `criteria` lists the criteria by
name, `criterion` is their base class, and `evidence` is what they may look at. `reduce` turns their numbers per member
into one per unit; `normalise` and `pruners.decide.isomorphic` make groups comparable. `measures` holds the criteria,
and the ablation (oracle) that `ranks` compares them with.
"""

__all__: list[str] = []
