"""Studies of many networks or many measurements; all of them go on where they stopped.

`methods` compares pruning methods, `published` the networks of papers, `coverage` how far pruning reaches, `oracle`
criteria with ablation; they share the `engine` that runs their jobs. `changes` looks for steps in simulated histories.
"""

__all__: list[str] = []
