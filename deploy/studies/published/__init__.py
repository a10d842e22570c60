"""Pruned architectures that papers published as numbers: a catalogue, a builder, and a study that measures them."""

__all__: list[str] = []
