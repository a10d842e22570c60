"""What stands on the pages: `first_screen` of the results; `rendering` fills the ``templates``."""

__all__: list[str] = []
