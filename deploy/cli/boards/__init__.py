"""Run commands on other machines by ``--on``, and manage what was put there by ``deploy boards``."""

__all__: list[str] = []
