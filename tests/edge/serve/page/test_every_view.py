"""Every view of the page: accessible in light and dark, by keyboard, below a root path, and for hostile names."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from PIL import Image

from edge.serve.page.browsing import (
    NARROW,
    go,
    keep_screenshot,
    needs_chromium,
    page_on,
    serious_faults,
    serving,
    settled,
    until,
)
from edge.serve.page.proxy import proxied
from edge.serve.support import make_gallery
from rrid_edge.serve.app import PAGE
from support.pictures import noise

pytestmark = needs_chromium
VIEWS = {
    "start": "search",
    "search": "search?crop=3",
    "people": "people",
    "questions": "people/questions",
    "person": "people/p1",
    "live": "live",
    "system": "system",
}
CROPS = 12


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("views"), {"yard": CROPS}) as found:
        name_people(found)
        yield found


def name_people(address):
    """Confirm two people, and merge them."""
    for name, crops in (("Ann", [1, 5]), ("Béla", [2, 6, 10])):
        httpx.post(f"{address}/api/v1/people", json={"name": name, "crops": crops}).raise_for_status()
    httpx.post(f"{address}/api/v1/people/p1/merge", json={"other": "p2"}).raise_for_status()


class Looking:
    """Looks at each view in turn: it fits the screen, is kept as a picture, and has no serious fault.

    Args:
        page: that shows the views.
        folder: for pictures.
        schemes: of colours.
    """

    def __init__(self, page, folder, schemes):
        self._page, self.folder, self._schemes = page, folder, schemes
        self.faults = {}

    def look(self, name):
        """Check what is shown. All rules of axe-core in light; in dark, what depends on colours."""
        page = self._page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        width = page.viewport_size["width"]
        for scheme in self._schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            with Image.open(keep_screenshot(page, self.folder, f"{name}-{width}-{scheme}")) as picture:
                assert (picture.convert("L").getpixel((4, picture.height // 2)) < 128) is (scheme == "dark"), name
            rules = ("color-contrast",) if scheme == "dark" else ()
            self.faults[name, scheme] = serious_faults(page, *rules)


def look_at_all(page, looking):
    """Show every view and the dialogs that cannot be undone."""
    for name, view in VIEWS.items():
        go(page, view)
        looking.look(name)
    go(page, "people")
    page.locator(".person-card.is-suggested .person-open").first.click()
    page.get_by_role("heading", name="Suggested group").wait_for()
    settled(page)
    looking.look("suggested")
    go(page, "search?crop=3")
    page.locator(".card .crop-open").first.click()
    page.get_by_role("dialog").locator("img").wait_for()
    page.get_by_role("button", name="Forget this crop…").click()
    page.get_by_label(re.compile("^Type")).wait_for()
    page.emulate_media(color_scheme="light")
    keep_screenshot(page, looking.folder, f"forget-{page.viewport_size['width']}-light")
    assert serious_faults(page) == []
    assert not any(looking.faults.values()), looking.faults


def test_every_view_on_a_desk(browser, address, tmp_path):
    with page_on(browser, address, bypass_csp=True) as page:
        look_at_all(page, Looking(page, tmp_path, ("light", "dark")))


def test_every_view_on_a_phone(browser, address, tmp_path):
    size = {"width": NARROW, "height": 812}
    with page_on(browser, address, viewport=size, has_touch=True, bypass_csp=True) as page:
        look_at_all(page, Looking(page, tmp_path, ("light",)))


def tab_to(page, selector, most=60):
    """Press Tab until an element that matches has the focus, and can be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"Tab does not reach {selector}")


def active(page):
    """The crop of the card that has the focus."""
    return page.evaluate("document.activeElement.dataset.crop")


def test_all_is_reached_by_keyboard(browser, address):
    with page_on(browser, address) as page:
        settled(page)
        tab_to(page, "#skip", 1)
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Home")
        go(page, "search?crop=3")
        tab_to(page, "#threshold")
        tab_to(page, ".card")
        crops = page.locator(".card").evaluate_all("(all) => all.map((one) => one.dataset.crop)")
        assert active(page) == crops[0]
        tops = page.locator(".card").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().top)")
        columns = tops.count(tops[0])
        for key, place in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowUp", 1), ("ArrowLeft", 0)):
            page.keyboard.press(key)
            assert active(page) == crops[place], key
        page.keyboard.press("End")
        assert active(page) == crops[-1]
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        tab_to(page, "dialog .button.is-icon")
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert active(page) == crops[-1]
        page.keyboard.press("x")
        page.locator(".selection").wait_for()
        tab_to(page, ".selection .is-primary")
        page.keyboard.press("Enter")
        tab_to(page, "dialog button[type=submit]")
        page.keyboard.press("Escape")
        page.locator(f".card[data-crop='{crops[1]}']").focus()
        page.keyboard.press("f")
        page.wait_for_url(re.compile(f"crop={crops[1]}"))
        for view in ("people", "live", "system"):
            page.locator("#skip").focus()
            tab_to(page, f"[data-view={view}]")
            page.keyboard.press("Enter")
            page.wait_for_url(re.compile(f"#/{view}"))
            until(page, "document.activeElement.id === 'main'")


def test_everything_works_below_a_root_path(browser, tmp_path):
    with (
        serving(tmp_path, {"yard": CROPS}, root_path="/reid") as behind,
        proxied(behind, "/reid") as (address, refused),
        page_on(browser, f"{address}/") as page,
    ):
        settled(page)
        name_people(address)
        for view in VIEWS.values():
            go(page, view)
            broken = "[...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src)"
            assert page.evaluate(broken) == []
            assert page.locator(".is-missing").count() == 0
            links = page.locator("a[href]").evaluate_all("(all) => all.map((one) => one.href)")
            assert [link for link in links if not link.startswith(f"{address}/")] == []
        go(page, "live")
        page.locator(".mode[data-mode=live]").wait_for()
        go(page, "search")
        page.locator("#query-files").set_input_files(str(next((tmp_path / "yard").glob("*.jpg"))))
        page.wait_for_url(re.compile("query=q_"))
        settled(page)
        assert page.locator(".card img").count() == 8
        page.reload()
        settled(page)
        page.locator(".query-image img").wait_for()
        assert page.locator(".query-image img").evaluate("(one) => one.naturalWidth") > 0
    assert refused == []


GONE = "status of 4(04|22).*/people/"
HOSTILE = "<img src=x onerror=window.broken=1>"


def test_hostile_names_are_shown_as_text(browser, tmp_path):
    make_gallery(tmp_path / HOSTILE, 6)
    for name in (f"0001_c1s1_000901_00{HOSTILE}.jpg", f"{HOSTILE}.jpg"):
        noise(5).save(tmp_path / HOSTILE / name, "JPEG")
    with (
        serving(tmp_path, {HOSTILE: 6, "other": 6}, watch=True) as address,
        page_on(browser, address, allowed=GONE) as page,
    ):
        settled(page)
        named = httpx.post(
            f"{address}/api/v1/people", params={"gallery": HOSTILE}, json={"name": HOSTILE, "crops": [2, 6]}
        )
        assert named.json()["name"] == HOSTILE
        for view in ("people/p1", "live", "search?crop=1&top_k=20", "system", "people", f"people/{HOSTILE}", HOSTILE):
            go(page, view)
            assert page.evaluate("[window.broken === undefined, document.querySelectorAll('img[src=x]').length]") == [
                True, 0,
            ]  # fmt: skip
        go(page, "live")
        page.locator(".small-card", has_text=f"{HOSTILE}.jpg").first.wait_for()
        assert page.locator("#gallery option").first.inner_text() == HOSTILE
        assert page.locator(".badge.is-confirmed").first.inner_text() == HOSTILE


def tokens(folder: Path) -> Path:
    """A token file with one token per role."""
    path = folder / "tokens"
    path.write_text("".join(f"{role} {role}-0123456789abcdef {role}er\n" for role in ("read", "label", "admin")))
    path.chmod(0o600)
    return path


def test_a_role_sees_the_buttons_that_it_may_use(browser, tmp_path):
    with serving(tmp_path, {"yard": CROPS}, token_file=tokens(tmp_path)) as address:
        for role, labels, forgets in (("read", 0, 0), ("label", 8, 0), ("admin", 8, 1)):
            with page_on(browser, address, allowed="401") as page:
                page.get_by_label(re.compile("token", re.IGNORECASE)).fill(f"{role}-0123456789abcdef")
                page.keyboard.press("Enter")
                settled(page)
                go(page, "search?crop=3")
                assert page.locator(".card .verdicts").count() == labels
                page.locator(".card .crop-open").first.click()
                page.get_by_role("dialog").locator("img").wait_for()
                assert page.get_by_role("button", name="Forget this crop…").count() == forgets
                page.keyboard.press("Escape")
                go(page, "people/questions")
                assert page.locator(".verdict-large").count() == (3 if labels else 0)
                page.get_by_role("button", name="Log out").click()
                page.get_by_label(re.compile("token", re.IGNORECASE)).wait_for()


def test_a_shared_address_is_kept_over_a_login(browser, tmp_path):
    shared = "?x=1#/search?crop=3&top_k=4"
    with serving(tmp_path, {"yard": CROPS}, token_file=tokens(tmp_path)) as service:
        address = f"{service}/{shared}"
        with page_on(browser, address, allowed="401") as page:
            for token in ("wrong-0123456789abcdef", "read-0123456789abcdef"):
                page.get_by_label("Token").fill(token)
                page.get_by_role("button", name="Log in").click()
                page.wait_for_load_state()
            settled(page)
            assert page.url == address
            assert page.locator(".card").count() == 4


def test_several_galleries_are_chosen_by_name(browser, tmp_path):
    with serving(tmp_path, {"yard": 6, "hall": 12}) as address, page_on(browser, f"{address}/#/live") as page:
        settled(page)
        assert page.locator(".small-card").count() == 6
        page.get_by_label("Gallery").select_option("hall")
        until(page, "document.querySelectorAll('.small-card').length === 12")
        page.get_by_role("button", name="Search by crop 12").click()
        page.wait_for_url(re.compile("gallery=hall"))
        settled(page)
        page.reload()
        settled(page)
        assert page.get_by_label("Gallery").input_value() == "hall"
        assert page.locator(".card").count() == 8


def test_the_document_names_every_module_so_that_the_browser_fetches_all_at_once():
    named = set(re.findall(r'(?:src|href)="(\w+\.js)"', (PAGE / "index.html").read_text(encoding="utf-8")))
    assert named == {path.name for path in PAGE.glob("*.js")} - {"types.js"}


def test_modules_are_short_and_take_nothing_from_elsewhere():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert path.suffix == ".css" or text.count("\n") <= 300, path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|insertAdjacentHTML|eval\(", text), path
