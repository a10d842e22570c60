"""What stands on the pages: `first_screen` of the results; `charts` of bars, and the page around them.

`tables_with_bars` are the pages of layers and loads, `commands` what a page says to type, `rendering` fills the
``templates``.
"""

__all__: list[str] = []
