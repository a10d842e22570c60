"""Other people's tools, run beside ours: none is needed to measure, all are there to check what we measure."""

__all__: list[str] = []
