"""What stands on the pages: `first_screen` of the results, `tables_with_bars` of layers and loads.

`rendering` fills the ``templates``.
"""

__all__: list[str] = []
