"""Run a command of this machine on a board over ssh.

`address` names the board and `connection` reaches it; `probe` inspects it before anything is sent. `payload` is the
measuring half of the package, and `trees` the models and inputs sent after it, both addressed by content. `board` runs
the steps in order, `resident` answers on the board, and `known` remembers which boards were used.
"""

__all__: list[str] = []
