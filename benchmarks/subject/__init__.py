"""What is measured: a model with its options, inputs and cost."""

__all__: list[str] = []
