"""A browser for tests of the page: Chromium of this machine, pages that complain about nothing, axe-core."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from edge.serve.support import running, service_on

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = "SCREENSHOTS"
"""Environment variable: the folder that gets screenshots."""
PATIENCE_MS = 20_000
"""Far longer than anything takes on a quiet machine: other workers may hold the processor."""
NARROW = 375
"""Width of a phone, in CSS pixels."""
_AXE = importlib.resources.files("axe_playwright_python") / "axe.min.js"
_PICTURES_ARE_THERE = """[...document.images].every((image) => {
    const box = image.getBoundingClientRect();
    return image.complete || box.bottom < 0 || box.top > innerHeight;
})"""
_RUN_AXE = """async (rules) => (await axe.run(rules.length ? { runOnly: rules } : {})).violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`)"""

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: install chromium, chromium-browser or google-chrome to test the page"
)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium without a window. Its sandbox is off: containers seldom allow it, and the page is our own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_on(browser: Browser, address: str, *, allowed: str = "", **options: Any) -> Iterator[Page]:
    """Open an address in a browser of its own, with its own cookies.

    The console must hold no error and no warning at the end, and no script may have failed.

    Args:
        browser: that shows it.
        address: to open.
        allowed: pattern of complaints that the test provokes.
        options: of the browser's context, such as ``color_scheme``.
    """
    options.setdefault("viewport", {"width": 1280, "height": 900})
    options.setdefault("timezone_id", "Europe/Berlin")
    options.setdefault("locale", "en-GB")
    options.setdefault("reduced_motion", "reduce")
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page = context.new_page()
    page.on(
        "console",
        lambda line: complaints.append(f"{line.text} {line.location}") if line.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(address)
        yield page
        unexpected = [line for line in complaints if not (allowed and re.search(allowed, line))]
        assert not unexpected, unexpected
    finally:
        context.close()


@contextlib.contextmanager
def serving(tmp_path: Path, galleries: Mapping[str, int], **settings: Any) -> Iterator[str]:
    """Serve galleries of drawn crops with a ``FakeEngine``; gives the address. See ``service_on``."""
    with service_on(tmp_path, galleries, **settings) as service, running(service) as address:
        yield address


def until(page: Page, expression: str, argument: object = None) -> None:
    """Wait until an expression of JavaScript is true. The policy of the page forbids ``wait_for_function``."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"still not true: {expression}"
        page.wait_for_timeout(20)


def settled(page: Page) -> None:
    """Wait until the view shows what it loaded."""
    page.locator("#main h1, #main .state").first.wait_for()
    until(page, "!document.querySelector('.skeleton, [aria-busy=true]')")
    until(page, _PICTURES_ARE_THERE)


def go(page: Page, view: str) -> None:
    """Show another view, such as ``people/p1``, and wait until it is there."""
    page.evaluate("(view) => { location.hash = `#/${view}` }", view)
    settled(page)


def serious_faults(page: Page, *rules: str) -> list[str]:
    """What axe-core calls serious or critical in what is shown. The page's context needs ``bypass_csp``.

    Args:
        page: that is shown.
        rules: to check; none checks all of them.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_RUN_AXE, list(rules))
    return found


def cards(page: Page) -> list[tuple[int, float]]:
    """Id and score of every match that is shown, in their order."""
    found = page.locator(".card").evaluate_all("(all) => all.map((one) => [one.dataset.crop, one.dataset.score])")
    return [(int(crop), float(score)) for crop, score in found]


def keep_screenshot(page: Page, folder: Path, name: str) -> Path:
    """Write what is shown as ``NAME.png`` into the folder that :data:`SCREENSHOTS` names, else into ``folder``."""
    where = Path(os.environ.get(SCREENSHOTS) or folder)
    where.mkdir(parents=True, exist_ok=True)
    path = where / f"{name}.png"
    page.screenshot(path=path)
    return path
