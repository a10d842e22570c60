"""Page content: `first_screen` of the results; `charts` of bars, and the page around them.

`tables_with_bars` has the pages of layers and loads, `commands` the commands that a page names; `rendering` fills the
``templates``.
"""

__all__: list[str] = []
