"""A board that answers with anything: one line, in time, and nothing of it on a terminal or on this disk."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from benchmarks.subject.subject import content_sha256
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.measure.bench import show_fetched
from deploy.edge.boards.address import Address
from deploy.edge.boards.answers import Answers
from deploy.edge.boards.connection import Connection, ConnectionLostError, Ended
from deploy.edge.boards.following import Following
from deploy.edge.boards.payload import Payload
from deploy.edge.boards.resident.trees import TreeError, receive
from deploy.edge.boards.scripting import look
from deploy.errors import BoardError, DeployError
from deploy.exit_codes import USAGE

TOKEN = "0123"


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("head -c 300000 /dev/zero", "prints 65,536 bytes or more before it runs the command"),
        ("yes", "prints 65,536 bytes or more"),
        ("printf '\\033[2Jno shell\\n' >&2; exit 1", "does not run commands: [2Jno shell (exit code 1)"),
        ("printf '%s\\n' \"${last##* }\"; yes x=1", "answers with garbage (it is too long)"),
        ("printf '%s\\n' \"${last##* }\"; head -c 200000 /dev/zero", "answers with garbage (it is too long)"),
        ("printf '%s\\n' \"${last##* }\"", "the description of the board is incomplete"),
        ("printf '%s\\n' \"${last##* }\"; exec yes >&2", "it floods standard error"),
        ("exit 255", "ssh ended with exit code 255"),
        ("echo 'Connection closed by \u202e board' >&2; exit 255", "Connection closed by board"),
    ],
)
def test_garbage_is_one_line(here, wire, model, tmp_path, answer, line):
    wire(answer)
    page = tmp_path / "page.html"
    done = here("bench", model, "--on", "ssh://board", "--page", page, "-q")
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert line in said
    assert said.isprintable()
    assert done.stdout == ""
    assert not page.exists()


def _followed(tmp_path, *parts, code=0):
    """Let a job answer this."""
    said = []
    following = Following("ssh://board", tmp_path / "result", lambda _: None, said.append, said.append)
    answers = Answers("ssh://board", TOKEN, following.hear)
    following.take(answers)
    for part in (f"{TOKEN}\n".encode(), *parts):
        data = part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n"
        if answers.take(data):
            break
    whole = answers.close()
    return following.fetched(Ended(code, "", whole, answers.sha256)), said


def _done(data=b"", **more):
    digest = hashlib.sha256(data).hexdigest()
    return {"done": {"code": 0, "free": 1 << 30, "is_result": True}, "size": len(data), "sha256": digest, **more}


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_answer_may_come_in_any_pieces(tmp_path, cut):
    data = b'{"a": 1}\nmore\n'
    whole = b"".join(json.dumps(one).encode() + b"\n" for one in ({"job": "0123456789-0"}, {"line": "x"}, _done(data)))
    whole += data
    pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)]
    fetched, said = _followed(tmp_path, *pieces)
    assert fetched.file.read_bytes() == data
    assert said[-1] == "on the board: x"


@pytest.mark.parametrize(
    "part",
    [
        b"\xff\xfe\x00garbage\n",
        b"[]\n",
        b'{"a": 1, "a": 2}\n',
        b'{"job": NaN}\n',
        b"[" * 5000 + b"\n",
        {"job": "../../etc"},
        {"job": 3},
        {"what": "else"},
        _done(size=1 << 40),
        _done(size=-1),
        _done(size="all"),
        _done(size=True),
        {**_done(), "done": {"code": "0"}},
        {**_done(), "done": {"code": True}},
        {**_done(), "done": {"code": None, "free": 10**4000}},
        {**_done(), "done": {"code": None, "free": -1}},
        {"error": "\x1b]0;title\x07 no room"},
        b"x" * 100_000,
    ],
)
def test_a_message_of_another_form_is_one_line(tmp_path, part):
    with pytest.raises(DeployError) as refused:
        _followed(tmp_path, part)
    assert str(refused.value).startswith("ssh://board")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_what_a_job_says_steers_no_terminal_and_is_cut(tmp_path):
    _, said = _followed(tmp_path, {"line": "\x1b[2J\u202e" + "a" * 5000}, {"line": "  "}, _done())
    (line,) = said
    assert line.startswith("on the board: \\u001b[2J\\u202eaaa")
    assert len(line) < 400


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ((_done(b"abc"), b"ab"), "the result is incomplete"),
        ((_done(b"abc"), b"abd"), "the result is incomplete"),
        (({"job": "0123456789-0"},), "it gave up"),
    ],
)
def test_half_a_result_can_be_fetched_again(tmp_path, parts, line):
    with pytest.raises(ConnectionLostError, match=line):
        _followed(tmp_path, *parts)


def test_a_job_that_was_killed_says_what_is_known(tmp_path):
    done = {**_done(), "done": {"code": None, "free": 3 << 20, "is_result": False}}
    with pytest.raises(DeployError, match=r"without a result: .* \(3 MB of its disk are free\); its last words: x"):
        _followed(tmp_path, {"line": "x"}, done)


RESULTS = b'{"schema_version": 4'


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, RESULTS, b"[" * 100_000, b"{}", b'{"schema_version": 4}'])
def test_a_result_of_another_form_is_one_line(tmp_path, model, content):
    file = tmp_path / "result"
    file.write_bytes(content)
    options = {"model": model, "against": None, "accept_unfit": False, "output": None, "page": None}
    command = GivenCommand({**options, "json": False, "verbose": False, "fast": True}, Address("board"), 0)
    with pytest.raises(DeployError) as refused:
        show_fetched(file, command)
    assert str(refused.value).isprintable()


def _require(model, measured, code):
    GivenCommand({"model": model, "against": None}, Address("board"), 0).require(measured, code)


def test_a_result_is_of_the_models_that_were_sent_and_means_what_the_board_says(model):
    sent = content_sha256(model)
    _require(model, [sent], 0)
    for measured in ([], ["0" * 64], [sent, "0" * 64]):
        with pytest.raises(BoardError, match="it did not measure the models that were sent: not believed"):
            _require(model, measured, 0)
    with pytest.raises(BoardError, match="it reports exit code 0, but what it measured means 4: not believed"):
        _require(model, [sent], 4)


def test_what_a_login_shell_prints_is_stepped_over(wire, tmp_path):
    board, before = tmp_path / "home", "echo 'folder=/etc'; printf '\\033[2J\\377\\000no line'; echo"
    wire(f'{before}\nHOME={board} exec /bin/sh -c "$last"')
    with Connection(Address("board")) as connection:
        assert look(connection, Payload()).folder == f"{board}/.cache/prune-deploy-board"


@pytest.mark.parametrize("names", [["../escape"], ["/etc/passwd"], ["a/../../b"], ["m/x.onnx", "m/y.onnx"], ["m/link"]])
def test_an_archive_holds_what_was_announced_and_nothing_else(tmp_path, names):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            if name.endswith("link"):
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    data.seek(0)
    announced = {"m/x.onnx": hashlib.sha256().hexdigest(), "m/link": "0" * 64}
    with pytest.raises(TreeError):
        receive(tmp_path / "files", "a" * 32, announced, data)
    assert list((tmp_path / "files").iterdir()) == []
