"""Text from outside never steers a terminal, and never turns the text around it."""

from __future__ import annotations

import json
import sys

import pytest

from deploy.files.printable import printable, printable_streams

HOSTILE = "\x1b[2Jred\x1b]0;title\x07\r\n\x9b31m\u202egnp.exe\u2066\u2028\x00\ud800\U000e0041"


def test_what_is_harmless_stays():
    text = "Ä name, 3 µs │ ─ … 中文 1\N{NO-BREAK SPACE}000"
    assert printable(text) is text or printable(text) == text


def test_everything_else_is_written_as_its_code():
    shown = printable(HOSTILE)
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == HOSTILE
    assert printable("a\nb\tc\x07", "\n\t") == "a\nb\tc\\u0007"


@pytest.mark.parametrize("terminal", [False, True])
def test_the_streams_of_a_command_show_nothing_else(terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    with printable_streams():
        sys.stdout.write(f"\x1b[1m{HOSTILE}\x1b[0m\n")
        sys.stderr.writelines([HOSTILE, "\n"])
    out, err = capsys.readouterr()
    style = ("\x1b[1m", "\x1b[0m") if terminal else ("\\u001b[1m", "\\u001b[0m")
    middle = out.removeprefix(style[0]).removesuffix(f"{style[1]}\n")
    assert out == f"{style[0]}{middle}{style[1]}\n"
    for text in (middle, err):
        assert text.replace("\n", "").isprintable()
    sys.stdout.write("as before\n")
    assert capsys.readouterr().out == "as before\n"
