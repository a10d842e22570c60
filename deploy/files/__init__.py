"""Files: `atomic` writes them complete or not at all.

`validation_errors` says in one line what does not fit in one that was read.
"""

__all__: list[str] = []
