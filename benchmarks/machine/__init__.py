"""The machine that measures: its hardware, the lock on it, how quiet it is, and what it can resolve.

`machine` is the interface for the runner. `environment`, `affinity` and `energy` describe it, `lock` keeps other
measurements away, `interference` and `probe` watch it, `fitness` judges it, `noise_floor` is the smallest difference it
can resolve; `state` is where that is stored, `linux` reads /proc and /sys.
"""

__all__: list[str] = []
