"""One pruning method a file, named after its criterion; the paper it follows is in its docstring."""

__all__: list[str] = []
