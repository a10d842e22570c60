"""What each operator does to channels: one file for each class of operators."""

__all__: list[str] = []
