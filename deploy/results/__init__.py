"""Results of runs and grids of measurements, as they are kept in files."""

__all__: list[str] = []
