"""Which channels live or die together: a traced program, labels on its values, groups."""

__all__: list[str] = []
