"""One pruning method per file, named after its criterion; its docstring cites the paper."""

__all__: list[str] = []
