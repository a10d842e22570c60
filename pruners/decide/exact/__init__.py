"""The highest importance within a predicted time: `plan` decides, `program` is what the solver is given."""

__all__: list[str] = []
