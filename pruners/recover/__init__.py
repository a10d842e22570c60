"""What a network goes through after the cut, and before: training, fine-tuning, evaluation."""

__all__: list[str] = []
