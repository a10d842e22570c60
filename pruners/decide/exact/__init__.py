"""Keep the most importance within a predicted time: `plan` decides, `program` builds the solver's input."""

__all__: list[str] = []
