"""Single weights set to zero: the tensors keep their shapes. Controls for what structured pruning buys."""

__all__: list[str] = []
