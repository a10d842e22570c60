"""What each operator does to channels.

One file for each kind of operator: products, element-wise functions, movements of entries, reductions, windows.
"""

__all__: list[str] = []
