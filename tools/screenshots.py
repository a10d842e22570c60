"""Write the pictures of docs/images from recorded results: ``python tools/screenshots.py [RESULTS.json]``.

They show what ``deploy report`` prints and writes for the demo of docs/run.md; nothing is measured. Chromium draws
them (`make browser` installs it).
"""

from __future__ import annotations

import io
import lzma
import shutil
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "golden" / "demo-v4.json.xz"
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RUN = "runs/demo"
"""Folder of the run, as shown in the picture of the terminal: where `make demo` puts it."""
SCREENS = {"page": (1280, 800, 1), "page-phone": (390, 844, 1.5)}
"""Width and height in CSS pixels, and how many pixels of the picture each one takes."""
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from deploy.results.results import Results


def recorded(path: Path, folder: Path) -> Results:
    """Read results; compressed ones are unpacked into a folder first."""
    from deploy.results.results import load

    if path.suffix == ".xz":
        unpacked = folder / path.stem
        unpacked.write_bytes(lzma.decompress(path.read_bytes()))
        path = unpacked
    return load(path)


def terminal(results: Results) -> str:
    """Return a page that looks like a terminal of 80 columns with the answer in it."""
    from rich.console import Console

    from deploy.report.terminal import print_results

    console = Console(
        file=io.StringIO(), width=80, record=True, highlight=False, force_terminal=True, color_system="standard"
    )
    paths = {row.label: f"{RUN}/export/{row.label}" for row in results.models}
    print_results(results, console, paths=paths)
    shown = console.export_html(inline_styles=True, code_format="{code}")
    return (
        '<!DOCTYPE html><meta charset="utf-8"><style>'
        "body { margin: 0; background: #fff }"
        "pre { display: inline-block; margin: 0; padding: 16px 20px; font: 14px/1.35 monospace; color: #1d2329;"
        "background: #f6f8fa; border: 1px solid #d0d7de; border-radius: 8px }"
        f"</style><pre><b>$ deploy report {escape(RUN)}/results.json</b>\n\n{shown.strip()}</pre>"
    )


def write_pictures(browser: Browser, results: Results, folder: Path) -> list[Path]:
    """Write the pictures, in the light theme: the terminal, and the first screen of the page on desktop and phone."""
    from deploy.report.page import page

    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "terminal.png"]
    context = browser.new_context(color_scheme="light", device_scale_factor=2)
    tab = context.new_page()
    tab.set_content(terminal(results))
    tab.locator("pre").screenshot(path=written[0])
    context.close()
    for name, (width, height, scale) in SCREENS.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="light", device_scale_factor=scale
        )
        tab = context.new_page()
        tab.set_content(page(results))
        box = tab.locator("main").bounding_box() or {"x": 0, "width": width}
        written.append(folder / f"{name}.png")
        tab.screenshot(path=written[-1], clip={"x": box["x"], "y": 0, "width": box["width"], "height": height})
        context.close()
    return written


def main() -> int:
    from tempfile import TemporaryDirectory

    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        print("there is no Playwright: make browser installs it", file=sys.stderr)
        return 2
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        print("there is no Chromium: make browser installs it", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        results = recorded(Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED, Path(folder))
        # Chromium's sandbox does not work in a container, and the pages are our own.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for path in write_pictures(browser, results, IMAGES):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
