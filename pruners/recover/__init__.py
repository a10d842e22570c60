"""Training, fine-tuning and evaluation of a network, before and after the cut."""

__all__: list[str] = []
