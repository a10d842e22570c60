"""Torch modules as found: copies, modes, attributes, outputs compared, random inputs."""

__all__: list[str] = []
