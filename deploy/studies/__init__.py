"""Studies of many networks or many measurements; a restarted study resumes where it stopped.

`methods` compares pruning methods, `published` the networks of papers, `coverage` which networks can be pruned, and
`oracle` criteria with ablation; they share the `engine` that runs their jobs. `changes` searches simulated histories
for steps.
"""

__all__: list[str] = []
