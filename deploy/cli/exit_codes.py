"""What the exit code of ``deploy`` means."""

from __future__ import annotations

__all__ = ["INTERRUPTED", "OK", "USAGE", "WRONG_ANSWERS"]

OK = 0
USAGE = 2
"""A mistake of the user, or something that this machine lacks; one line on stderr says what to do."""
WRONG_ANSWERS = 5
"""A compiled model's answers differ from the reference."""
INTERRUPTED = 130
