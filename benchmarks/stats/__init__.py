"""Statistics of samples: summaries, tests, intervals and caveats. Pure functions on numbers."""

__all__: list[str] = []
