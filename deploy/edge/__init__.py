"""Edge boards: describing one and measuring a network on it (`profile`), and connecting to it (`boards`)."""

__all__: list[str] = []
