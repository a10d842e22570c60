"""The machine: what it is, who holds it, how quiet it is, and what it can measure.

`machine` is what the runner sees. `environment`, `affinity` and `energy` describe it, `lock` keeps others away,
`interference` and `probe` watch it, `fitness` judges it, `noise_floor` is what it can tell apart;
`state` is where that is kept, `linux` reads /proc and /sys.
"""

__all__: list[str] = []
