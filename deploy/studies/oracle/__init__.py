"""Study of which criterion ranks units like their ablation: `study` starts `work`, `results` and `page` show it."""

__all__: list[str] = []
