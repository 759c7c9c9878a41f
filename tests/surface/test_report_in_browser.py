"""The report in a real browser: what ends up in the document, and in which colours."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scope_rlvr.report import write_report
from tests.example_run import make_run
from tools.screenshot import browse, find_browser, take_screenshot

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine to open the report with")

PARTS = ("kept", "rejected", "teacher", "continuation")


class Document(HTMLParser):
    """The elements of a document by name, each with its classes."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, set[str]]] = []
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, set((dict(attrs).get("class") or "").split())))

    def count(self, tag: str, css: str) -> int:
        return sum(name == tag and css in classes for name, classes in self.elements)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every response and prompt tries to run a script and to end the style sheet."""
    attack = "<script>document.title='hacked'</script></style><img src=x onerror=\"document.title='hacked'\">"
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "example", num_steps=6, remark=attack))


def test_document_holds_salvages_curves_and_no_script(report: Path) -> None:
    assert BROWSER is not None
    dom = browse(BROWSER, report, "--dump-dom")
    document = Document(dom)
    for part in PARTS:
        assert document.count("li", part) > 1
    assert document.count("article", "case") >= 2
    assert document.count("figure", "chart") == 9
    assert len(re.findall(r'<g id="[\w-]+-line-\d+"', dom)) >= 6
    assert len(re.findall(r'<g id="[\w-]+-area-\d+"', dom)) >= 6
    assert document.count("rect", "probe") >= 9 * 6
    assert not {"script", "img"} & {tag for tag, _ in document.elements}
    assert re.search(r"<title>example · scope</title>", dom)


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_four_parts_have_four_colours_on_the_screen(report: Path, tmp_path: Path, is_dark: bool) -> None:
    image = pytest.importorskip("matplotlib.image")
    assert BROWSER is not None
    picture = tmp_path / "report.png"
    take_screenshot(BROWSER, report, picture, width=1200, height=1400, dark=is_dark, section="salvaged")
    pixels = (image.imread(picture)[:, :, :3] * 255).round().astype(int)
    colours = [_colours(report, is_dark)[part] for part in PARTS]
    assert len(set(colours)) == 4
    for part, colour in zip(PARTS, colours, strict=True):
        assert (pixels == colour).all(axis=-1).any(), f"the colour of {part!r} is nowhere on the screen"


def _colours(report: Path, is_dark: bool) -> dict[str, tuple[int, ...]]:
    """The colours that the style sheet gives to the parts in one scheme."""
    roots = re.findall(r":root \{(.*?)\}", report.read_text("utf-8"), re.DOTALL)
    found = re.findall(r"--(\w+): #(\w{6});", roots[is_dark])
    return {name: tuple(bytes.fromhex(digits)) for name, digits in found}
