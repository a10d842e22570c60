"""Where the number per unit comes from: criteria, and what is done to their scores before a decision.

Scores are plain numbers, ``{group name: one float per unit}``; low means unimportant. `criteria` lists what there is,
`criterion` says what a criterion is, `evidence` what it may look at. Its numbers per member become one per unit in
`reduce`; `normalise` and `isomorphic` make groups comparable. `oracle` and `ranks` tell how good a criterion is.
"""

__all__: list[str] = []
