"""What the pages share: `rendering` fills the ``templates``."""

__all__: list[str] = []
