"""The CIFAR-style networks of the pruning papers, one file per family. Importing the package imports no torch."""

__all__: list[str] = []
