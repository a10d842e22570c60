"""What is measured: a model with its options, its inputs, and what it costs."""

__all__: list[str] = []
