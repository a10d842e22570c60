"""A command of this machine, measured on another one over ssh.

`address` names the board and `connection` is the way to it; `probe` looks before anything is put there. `payload` is
the half of us that measures, and `trees` the models and inputs that follow it, both by their content. `board` does one
thing after the other, `resident` is what answers on the board, and `known` remembers where something was put.
"""

__all__: list[str] = []
