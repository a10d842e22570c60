"""Plans that travel: read with the network they were made for, compared, applied, transferred to another network."""

__all__: list[str] = []
