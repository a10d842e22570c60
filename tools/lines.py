"""Count the lines of code of the four packages, without blank lines, comments and docstrings; run by `make lines`."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("deploy", "pruners", "backends", "benchmarks")
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(text: str) -> int:
    """Return how many lines of a module hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if ast.get_docstring(node, clean=False) is not None and first is not None:
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)


def main() -> None:
    total = 0
    for package in PACKAGES:
        files = sorted((ROOT / package).rglob("*.py"))
        lines = sum(lines_of_code(path.read_text(encoding="utf-8")) for path in files)
        print(f"{package:12}{lines:7}")
        total += lines
    print(f"{'together':12}{total:7}")


if __name__ == "__main__":
    main()
