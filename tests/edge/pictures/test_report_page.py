"""The report in a browser: what its top says, a narrow screen, enlarged pictures, sorting by keyboard."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from edge.serve.page.browsing import NARROW, needs_chromium, open_browser, page_on, serious_faults
from rrid_edge.matching import Match, MatchResult
from rrid_edge.model.spec import block_names
from rrid_edge.pictures.html import html_report, write_report

NAMES = block_names()
FACTS = (("made", ["2026-11-26 12:00:00 UTC"]), ("filters", ["camera <lobby>", "since frame 4"]))


class Facts(HTMLParser):
    """Terms and lines of the list on top of a report."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self.open = ""
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.open = tag if tag in ("dt", "dd", "span") else ""

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        if self.open == "dt":
            self.found[data] = []
        elif self.open == "span" and self.found:
            list(self.found.values())[-1].append(data)


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, side in enumerate((64, 300, 40, 64)):
        Image.new("RGB", (side, 2 * side), (60 * number, 90, 120)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def result(folder) -> MatchResult:
    matches = (
        Match(1, 0.9, "1.png", "2", "0002", tuple([0.06] * len(NAMES))),
        Match(2, 0.8, "2.png", "10", "0001", tuple([0.05] * len(NAMES))),
        Match(3, 0.7, "3.png", "3"),
    )
    return MatchResult((str(folder / "0.png"),), matches, "0001", "1")


def test_the_top_says_how_it_was_made_and_how_it_went(folder, result):
    right = replace(result, matches=result.matches[1:])
    empty = replace(result, query=("none & nothing.png",), matches=())
    unlabelled = replace(result, person=None, warnings=("flat", "wide"))
    document = html_report([result, right, empty, unlabelled], folder, block_names=NAMES, facts=FACTS)
    assert Facts(document).found == {
        "made": ["2026-11-26 12:00:00 UTC"],
        "filters": ["camera <lobby>", "since frame 4"],
        "queries": ["4", "without a match: 1 (none & nothing.png)"],
        "first matches": ["1 of 2 right"],
    }
    top = document.split("<section>")[0].split("</style>")[1]
    assert '<p class="warning">flat</p><p class="warning">wide</p>' in top.replace("\n", "")
    assert Facts(html_report([unlabelled], folder, block_names=NAMES)).found == {"queries": ["1"]}


@needs_chromium
def test_a_picture_keeps_its_pixels_up_to_a_limit_and_is_shown_small(folder, result):
    document = html_report([result], folder, block_names=NAMES)
    write_report(folder / "r.html", document)
    with open_browser() as browser, page_on(browser, (folder / "r.html").as_uri()) as page:
        sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.width, i.height])")
    assert sizes == [[64, 128, 64, 128], [192, 384, 64, 128], [40, 80, 64, 128], [64, 128, 64, 128]]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, 390, 1280])
def test_the_report_fits_the_screen_and_can_be_used_by_everybody(folder, result, width, scheme):
    long = replace(result.matches[0], path=f"{'very-long-folder-name/' * 9}crop.png")
    shown = replace(result, matches=(long, *result.matches[1:]), warnings=("doubtful " * 30,))
    write_report(folder / "r.html", html_report([shown], folder, block_names=NAMES, facts=FACTS))
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "bypass_csp": True}
    with open_browser() as browser, page_on(browser, (folder / "r.html").as_uri(), **options) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for cell in page.locator("td[data-name], td.path, td.verdict").all():
            box = cell.bounding_box()
            assert box is None or box["x"] + box["width"] <= width
        assert serious_faults(page) == []
        page.locator("tr .enlarge").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page) == []


@needs_chromium
def test_keys_enlarge_go_on_and_close(folder, result):
    write_report(folder / "r.html", html_report([result], folder, block_names=NAMES))
    with open_browser() as browser, page_on(browser, (folder / "r.html").as_uri()) as page:
        second = page.locator("tr .enlarge").nth(1)
        second.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.locator("figcaption").all_inner_texts() == [
            "query",
            "rank 2 · score 0.800 · camera 10 · person 0001 · right · 2.png",
        ]
        box = dialog.locator("img").nth(1).bounding_box()
        assert box is not None
        assert box["width"] > 120
        page.keyboard.press("ArrowRight")
        assert dialog.locator("figcaption").nth(1).inner_text() == "rank 3 · score 0.700 · camera 3 · not known · 3.png"
        page.keyboard.press("ArrowRight")  # there is no fourth
        page.keyboard.press("ArrowLeft")
        assert dialog.locator("figcaption").nth(1).inner_text().startswith("rank 2 ")
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "enlarge 2.png"
        page.locator(".query .enlarge").click()
        assert dialog.locator("img").count() == 1
        dialog.get_by_role("button", name="close").click()
        assert not dialog.is_visible()


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_sort_state_is_announced(folder, result, width):
    write_report(folder / "r.html", html_report([result], folder, block_names=NAMES))
    address, viewport = (folder / "r.html").as_uri(), {"width": width, "height": 800}
    with open_browser() as browser, page_on(browser, address, viewport=viewport) as page:

        def state() -> dict[str, str | None]:
            headings = page.locator("th[aria-sort]")
            return {heading.inner_text().split()[0]: heading.get_attribute("aria-sort") for heading in headings.all()}

        def ranks() -> list[str]:
            return page.evaluate("[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent)")

        assert (state(), ranks()) == ({"rank": "ascending"}, ["1", "2", "3"])
        page.get_by_role("button", name="score").click()
        assert (state(), ranks()) == ({"score": "descending"}, ["1", "2", "3"])
        assert page.locator("[role=status]").inner_text() == "sorted by score, descending"
        page.get_by_role("button", name="score").press("Enter")
        assert (state(), ranks()) == ({"score": "ascending"}, ["3", "2", "1"])
        page.get_by_role("button", name="camera").press("Enter")
        assert (state(), ranks()) == ({"camera": "ascending"}, ["1", "3", "2"])  # 2, 3, 10
