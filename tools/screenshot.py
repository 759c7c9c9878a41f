"""Take a picture of a report: python tools/screenshot.py runs/demo/report.html demo.png --dark"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
DARK = "--blink-settings=preferredColorScheme=0"


def find_browser() -> str | None:
    """The path of a Chromium on this machine, ``None`` when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def browse(browser: str, page: Path, *flags: str) -> str:
    """Open a local page headless, in a profile of its own, and return what Chromium prints."""
    with tempfile.TemporaryDirectory(prefix="screenshot-") as profile:
        command = [browser, *QUIET, f"--user-data-dir={profile}/new", *flags, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    return done.stdout


def take_screenshot(
    browser: str, page: Path, picture: Path, *, width: int, height: int, dark: bool = False, section: str = ""
) -> None:
    """Write a PNG of the first ``height`` pixels of a page, or of one of its sections."""
    flags = [f"--window-size={width},{height}", f"--screenshot={picture.resolve()}", *([DARK] if dark else [])]
    if not section:
        browse(browser, page, *flags)
        return
    with tempfile.TemporaryDirectory(prefix="screenshot-") as folder:
        only = f"<style>main > header, main > footer, main > section:not(#{section}) {{ display: none }}</style></head>"
        copy = Path(folder) / "section.html"
        copy.write_text(page.read_text("utf-8").replace("</head>", only, 1), encoding="utf-8")
        browse(browser, copy, *flags)


def main() -> int:
    """Read the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=2400)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--section", default="", help="id of the only section to show, such as 'salvaged'")
    arguments = parser.parse_args()
    browser = find_browser()
    if browser is None:
        print(f"no browser found (looked for {', '.join(NAMES)}); install Chromium", file=sys.stderr)
        return 1
    take_screenshot(
        browser,
        arguments.page,
        arguments.picture,
        width=arguments.width,
        height=arguments.height,
        dark=arguments.dark,
        section=arguments.section,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
