"""Where the number per unit comes from: criteria, and what is done to their scores before a decision.

Scores are plain numbers, ``{group name: one float per unit}``; low means unimportant. `criteria` lists what there is,
`criterion` says what a criterion is, `evidence` what it may look at. Its numbers per member become one per unit in
`reduce`; `normalise` and `pruners.decide.isomorphic` make groups comparable. `measures` holds the criteria; the
ablation among them is what `ranks` compares the others with.
"""

__all__: list[str] = []
