"""Commands of ours, what tests of processes wait for, and Chromium, one for all tests of a file."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager

import psutil
import pytest

from deploy.cli import command_line
from deploy.user_errors import guarded

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Tab:
    """A page in a window of its own, and all that it asked for and complained of."""

    def __init__(self, context, path):
        self.page = context.new_page()
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.url = path.as_uri()
        self.page.goto(self.url)

    def boxes(self, selector):
        """Where the elements stand: x, y, width and height in CSS pixels."""
        return self.page.eval_on_selector_all(
            selector, "found => found.map(one => one.getBoundingClientRect().toJSON())"
        )

    def shown(self, selector):
        """Whether each of the elements can be seen; what is folded cannot."""
        return self.page.eval_on_selector_all(selector, "found => found.map(one => one.checkVisibility())")

    def words(self, selector):
        return [" ".join(found.split()) for found in self.page.locator(selector).all_inner_texts()]


@pytest.fixture
def here(capsys, monkeypatch):
    """Run a command in this process, which has loaded already what a new one would load for seconds."""

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            guarded(command_line)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code or 0, told.out, told.err)

    return run


@pytest.fixture
def wait_until():
    """Wait until a condition holds; fail after minutes."""

    def wait(condition, seconds=300):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.1)

    return wait


@pytest.fixture
def wait_until_gone(wait_until):
    """Wait until none of some processes runs any more. One that nobody buried does not run."""

    def lives(process):
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return lambda processes: wait_until(lambda: not any(lives(process) for process in processes))


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright: make browser installs it")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium: make browser installs it")
    with sync_api.sync_playwright() as playwright:
        # A container has no sandbox for it, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Open a page that was made, in a window of its own."""

    @contextmanager
    def open_page(text, size=(1280, 800), *, dark=False, scripts=False):
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        try:
            yield Tab(context, path)
        finally:
            context.close()

    return open_page
