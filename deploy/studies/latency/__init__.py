"""Studies of pruning to a speed, each a command: ``python -m deploy.studies.latency.<name>``.

`grid` asks many networks for many speeds and reports how close they come; `draws` searches for a pruned network that is
slower than the dense one.
"""

__all__: list[str] = []
