"""People on the page: naming, merging, splitting, questions, forgetting."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import httpx
import pytest

from edge.serve.page.browsing import cards, go, needs_chromium, page_on, serving, settled, until

pytestmark = needs_chromium


@pytest.fixture
def page(browser, tmp_path):
    with serving(tmp_path, {"yard": 12}) as address, page_on(browser, address) as found:
        settled(found)
        yield found


def found_in(pattern, text):
    """The group of a pattern in a text."""
    found = re.search(pattern, text)
    assert found is not None, text
    return found.group(1)


def name_crops(page, ids, name):
    """Search by the first crop, choose the others among the matches, and name all; returns the person's id."""
    first, *rest = ids
    go(page, f"search?crop={first}&top_k=20")
    for crop in rest:
        page.get_by_role("checkbox", name=f"Choose crop {crop}", exact=True).check()
    page.get_by_role("button", name="Name this person…").click()
    page.locator("#asked-name").fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Name", exact=True).click()
    badge = page.locator(f".card[data-crop='{rest[0]}'] .badge.is-confirmed")
    badge.wait_for()
    assert badge.inner_text() == name
    return found_in(r"people/(\w+)", badge.get_attribute("href"))


def named(page, crops, name):
    """Name crops, not on the page; returns the person's id."""
    answer = httpx.post(
        page.url.partition("#")[0] + "api/v1/people", json={"name": name, "crops": crops}
    ).raise_for_status()
    return answer.json()["id"]


def shown_crops(page, person):
    """Ids of the crops on a person's page."""
    go(page, f"people/{person}")
    return sorted(
        int(crop) for crop in page.locator(".small-card").evaluate_all("(all) => all.map((one) => one.dataset.crop)")
    )


def test_merging_and_undoing_the_merge_restores_both(page):
    ann, bea = name_crops(page, [1, 5, 9], "Ann"), named(page, [2, 6, 10], "Bea")
    before = shown_crops(page, ann), shown_crops(page, bea)
    assert before == ([1, 5, 9], [2, 6, 10])
    go(page, "people")
    for name in ("Ann", "Bea"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("button", name="Merge…").click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator(".merge-side").count() == 2
    dialog.get_by_role("button", name="Merge").click()
    until(page, "document.querySelectorAll('.person-card.is-confirmed').length === 1")
    assert shown_crops(page, ann) == [1, 2, 5, 6, 9, 10]
    page.get_by_role("button", name=re.compile("^Undo: Merged with Bea")).click()
    until(page, "document.querySelectorAll('.small-card').length === 3")
    go(page, "people")
    people = {
        card.get_attribute("aria-label"): card.get_attribute("data-person")
        for card in page.locator(".person-card.is-confirmed").all()
    }
    assert set(people) == {"Ann", "Bea"}
    assert (shown_crops(page, people["Ann"]), shown_crops(page, people["Bea"])) == before


def test_confirmed_and_suggested_people_do_not_look_alike(page):
    named(page, [1, 5, 9], "Ann")
    go(page, "people")
    confirmed = page.locator(".person-card.is-confirmed").first
    suggested = page.locator(".person-card.is-suggested").first
    look = "(one) => [getComputedStyle(one).borderTopStyle, one.querySelector('.badge').innerText.trim()]"
    assert confirmed.evaluate(look) == ["solid", "Ann"]
    border, words = suggested.evaluate(look)
    assert border == "dashed"
    assert re.fullmatch(r"suggested, [01]\.\d\d", words)
    assert confirmed.locator(".badge .icon").count() == 1
    assert suggested.locator(".badge .icon").count() == 0


def test_a_suggested_group_is_confirmed_by_naming_it(page):
    go(page, "people")
    suggested = page.locator(".person-card.is-suggested").first
    crops = int(found_in(r"(\d+) crop", suggested.inner_text()))
    suggested.get_by_role("button", name="Confirm and name…").click()
    page.locator("#asked-name").fill("Cem")
    page.get_by_role("dialog").get_by_role("button", name="Confirm and name").click()
    card = page.locator(".person-card.is-confirmed", has_text="Cem")
    card.wait_for()
    assert f"{crops} crop" in card.inner_text()


def test_crops_are_moved_to_another_person(page):
    ann = named(page, [1, 5, 9], "Ann")
    go(page, f"people/{ann}")
    page.get_by_role("checkbox", name="Choose crop 9").check()
    page.get_by_role("button", name="Move to another person…").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("Dora")
    page.get_by_role("dialog").get_by_role("button", name="Move").click()
    until(page, "document.querySelectorAll('.small-card').length === 2")
    go(page, "people")
    assert page.locator(".person-card.is-confirmed").evaluate_all("(all) => all.map((one) => one.ariaLabel)") == [
        "Ann", "Dora",
    ]  # fmt: skip


def test_questions_are_answered_by_key(page):
    go(page, "people/questions")
    asked = int(found_in(r"1 of (\d+)", page.locator(".question").inner_text()))
    pair = page.locator(".pair-side").evaluate_all("(all) => all.map((one) => Number(one.dataset.crop))")
    with page.expect_response(re.compile("/feedback")) as sent:
        page.keyboard.press("d")
    assert sent.value.status == 201
    question = {"query": {"crop": pair[0]}, "crop": pair[1], "verdict": "different"}
    assert sent.value.request.post_data_json == question
    for _ in range(asked - 1):
        with page.expect_response(re.compile("/feedback")):
            page.keyboard.press("u")
    page.get_by_role("heading", name="That was the last question").wait_for()
    page.keyboard.press("ArrowLeft")
    pressed = page.locator(".verdict-large[aria-pressed=true]")
    assert pressed.inner_text().startswith("Different" if asked == 1 else "Unsure")
    page.reload()
    page.get_by_role("heading", name="No open questions").wait_for()


def test_forgetting_a_person_removes_her_everywhere_on_the_page(page):
    ann = named(page, [1, 5, 9], "Ann")
    other = page.context.new_page()
    other.goto(page.url.partition("#")[0] + "#/live")
    settled(other)
    assert other.locator(".small-card").count() == 12
    go(page, f"people/{ann}")
    with page.expect_download() as export:
        page.get_by_role("link", name="Export").click()
    with zipfile.ZipFile(export.value.path()) as archive:
        assert "crops.csv" in [Path(name).name for name in archive.namelist()]
    page.get_by_role("button", name="Forget…").click()
    dialog = page.get_by_role("dialog")
    assert "cannot be undone" in dialog.inner_text()
    assert dialog.get_by_role("button", name="Forget this person").is_disabled()
    dialog.get_by_role("textbox").fill("Ann")
    dialog.get_by_role("button", name="Forget this person").click()
    page.wait_for_url(re.compile("#/people$"))
    settled(page)
    assert page.locator(".person-card", has_text="Ann").count() == 0
    until(other, "document.querySelectorAll('.small-card').length === 9")
    go(page, "live")
    left = page.locator(".small-card").evaluate_all("(all) => all.map((one) => Number(one.dataset.crop))")
    assert not {1, 5, 9} & set(left)
    go(page, "search?crop=2&top_k=20")
    assert not {1, 5, 9} & {crop for crop, _ in cards(page)}
    assert page.get_by_text("Ann", exact=True).count() == 0


def test_forgetting_a_crop_removes_its_card(page):
    go(page, "search?crop=2&top_k=20")
    page.locator(".card[data-crop='6'] .crop-open").click()
    page.get_by_role("button", name="Forget this crop…").click()
    page.get_by_label(re.compile("^Type")).fill("forget")
    page.get_by_role("button", name="Forget this crop", exact=True).click()
    until(page, "!document.querySelector('dialog, [data-crop=\"6\"]')")
    settled(page)
    assert 6 not in {crop for crop, _ in cards(page)}
    assert len(cards(page)) == 10
