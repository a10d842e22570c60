"""Rules for what each operator does to channels.

One module per kind of operator: products, element-wise functions, data movement, reductions, windows.
"""

__all__: list[str] = []
