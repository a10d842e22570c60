"""Criteria held against the measured effect of each unit (`deploy study oracle`)."""

__all__: list[str] = []
