"""The criteria themselves, one file each; `pruners.importance.criteria` lists them by name."""

__all__: list[str] = []
