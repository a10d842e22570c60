"""What an address may be."""

from __future__ import annotations

import pytest

from deploy.edge.boards.address import Address
from deploy.errors import BoardError


@pytest.mark.parametrize(
    ("text", "words", "folder"),
    [
        ("ssh://board", ["--", "board"], ""),
        ("ssh://pi@board:2222", ["-l", "pi", "-p", "2222", "--", "board"], ""),
        ("ssh://Pi4", ["--", "Pi4"], ""),
        ("ssh://pi@[::1]:22/mnt/ssd/own", ["-l", "pi", "-p", "22", "--", "::1"], "/mnt/ssd/own"),
        ("ssh://pi@board/~/own", ["-l", "pi", "--", "board"], "~/own"),
        ("ssh://pi@10.0.0.7/", ["-l", "pi", "--", "10.0.0.7"], ""),
    ],
)
def test_an_address_names_a_board(text, words, folder):
    address = Address.read(text)
    assert address.words == words
    assert address.folder == folder
    assert Address.read(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "board",
        "pi@board",
        "http://board",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-l@board",
        "ssh://pi:secret@board",
        "ssh://board:99999",
        "ssh://board/../etc",
        "ssh://board/a b",
        "ssh://board/$(id)",
        "ssh://bo ard",
        "ssh://board?x=1",
        "ssh://board\n/x",
        "ssh://b\u202eoard",
    ],
)
def test_what_is_no_address_is_one_line(text):
    with pytest.raises(BoardError) as refused:
        Address.read(text)
    assert "secret" not in str(refused.value)
