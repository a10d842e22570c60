"""The measured process: how it is started and spoken to, what it does, what it uses."""

__all__: list[str] = []
