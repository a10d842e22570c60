"""Studies of pruning to a speed, each a command: ``python -m deploy.studies.latency.<name>``.

`grid` asks many networks for many speeds and tells how close they come; `draws` looks for a network that comes out
slower than the dense one.
"""

__all__: list[str] = []
