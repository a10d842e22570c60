"""``deploy table``: latency tables, used to prune networks to a speed. One file per command."""

__all__: list[str] = []
