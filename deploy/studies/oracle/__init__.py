"""Which criterion ranks units as their ablation does: `study` starts `work` in a child, `results` and `page` show."""

__all__: list[str] = []
