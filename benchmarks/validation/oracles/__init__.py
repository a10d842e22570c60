"""Third-party tools that check our measurements; none is needed to measure."""

__all__: list[str] = []
