"""Files: `atomic` writes them complete or not at all.

`validation_errors` says in one line what does not fit in one that was read; `printable` is text from outside as it may
be shown, and `advice` fits what messages advise to the command that runs; `scratch` is the temporary folder of a
command.
"""

__all__: list[str] = []
