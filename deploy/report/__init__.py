"""What a person reads: the answer in words, tables for the terminal, and one self-contained page."""

__all__: list[str] = []
