"""``deploy table``: latency tables, from which networks are pruned to a speed. One file a command."""

__all__: list[str] = []
