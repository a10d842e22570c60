"""Read and write files and show their text safely: `atomic` writes a file complete or not at all.

`validation_errors` describes an invalid document in one line; `printable` makes external text safe to show; `advice`
adapts the advice in messages to the running command; `scratch` is the temporary folder of a command.
"""

__all__: list[str] = []
