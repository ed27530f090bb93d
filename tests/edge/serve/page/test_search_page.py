"""Search on the page: the cards equal ``match --json``, filters, verdicts, keys, and several images."""

from __future__ import annotations

import base64
import io
import json
import re

import pytest
from PIL import Image

from edge.serve.page.browsing import cards, go, needs_chromium, page_on, settled, until
from edge.serve.support import running
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from support.commands import rrid_edge

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(desk):
    with Service(ServeSettings((str(desk / "yard"),))) as service, running(service) as found:
        yield found


@pytest.fixture
def page(browser, address):
    with page_on(browser, address) as found:
        settled(found)
        yield found


def matched(desk, *arguments):
    """Id and score of every match of ``match --json``, in their order."""
    outcome = rrid_edge("match", *arguments, desk / "yard", "--json")
    assert outcome.code == 0, outcome.err
    return [(match["id"], match["score"]) for match in json.loads(outcome.out)["results"][0]["matches"]]


def equal(found, expected):
    assert [crop for crop, _ in found] == [crop for crop, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


def upload(page, *files):
    page.locator("#query-files").set_input_files([str(file) for file in files])
    page.wait_for_url(re.compile("query=q_"))
    settled(page)


def test_the_cards_of_an_upload_equal_match(page, desk):
    upload(page, desk / "query.png")
    found = cards(page)
    assert len(found) == 8
    equal(found, matched(desk, desk / "query.png", "--top-k", 8))
    page.reload()  # from the kept query that the address names
    settled(page)
    equal(cards(page), found)


def test_several_images_of_one_person_are_one_query(page, desk):
    upload(page, desk / "query.png")
    first = page.url
    page.locator("#query-files").set_input_files(str(desk / "other.png"))
    until(page, "(url) => location.href !== url && location.href.includes('query=')", first)
    settled(page)
    equal(cards(page), matched(desk, desk / "query.png", desk / "other.png", "--top-k", 8))
    page.get_by_role("button", name="Take query image 2 away").click()
    until(page, "document.querySelectorAll('.query-image').length === 1")
    settled(page)
    equal(cards(page), matched(desk, desk / "query.png", "--top-k", 8))


def test_filters_keep_what_the_command_line_keeps(page, desk):
    upload(page, desk / "query.png")
    page.get_by_role("button", name=re.compile("^Camera 1")).click()
    page.get_by_role("button", name=re.compile("^Camera 3")).click()
    page.wait_for_url(re.compile("camera=1&camera=3"))
    settled(page)
    equal(cards(page), matched(desk, desk / "query.png", "--top-k", 8, "--camera", "1", "--camera", "3"))
    page.get_by_label("Crops to show").select_option("20")
    page.wait_for_url(re.compile("top_k=20"))
    settled(page)
    equal(cards(page), matched(desk, desk / "query.png", "--top-k", 20, "--camera", "1", "--camera", "3"))
    page.get_by_role("button", name="1 in 1,000").click()
    page.wait_for_url(re.compile("fpr=0.001"))
    settled(page)
    expected = matched(desk, desk / "query.png", "--top-k", 20, "--camera", "1", "--camera", "3", "--threshold", 0.5)
    equal(cards(page), expected)
    page.locator("#clear-filters").click()
    page.wait_for_url(re.compile(r"query=q_[\w-]+$"))
    settled(page)
    equal(cards(page), matched(desk, desk / "query.png", "--top-k", 8))


def test_a_threshold_that_nothing_reaches_leaves_an_empty_state(page, desk):
    upload(page, desk / "query.png")
    page.locator("#threshold").fill("1")
    settled(page)
    page.get_by_role("heading", name="No match").wait_for()
    page.locator(".state").get_by_role("button", name="Clear filters").click()
    page.locator(".card").first.wait_for()


def test_the_slider_is_marked_at_the_measured_rates(page, desk):
    upload(page, desk / "query.png")
    marks = page.locator(".tick").evaluate_all("(all) => all.map((one) => one.style.left)")
    assert sorted(marks) == ["20%", "50%", "95%"]
    for card, (_, score) in zip(page.locator(".card").all(), cards(page), strict=True):
        rate = "1 in 10,000" if score >= 0.95 else "1 in 1,000" if score >= 0.5 else "1 in 100"
        shown = card.locator(".rate").inner_text()
        assert shown == (rate if score >= 0.2 else "below all rates")


def test_bars_differ_where_people_differ(page, desk):
    upload(page, desk / "query.png")
    page.get_by_label("Crops to show").select_option("20")
    page.wait_for_url(re.compile("top_k=20"))
    settled(page)
    bars = page.locator(".card").evaluate_all(
        "(all) => all.map((one) => [one.querySelector('.told').textContent, one.querySelector('.bars').ariaLabel])"
    )
    people = {person for person, _ in bars}
    assert len(people) > 1
    assert len({next(label for one, label in bars if one == person) for person in people}) == len(people)


def test_bars_name_their_parts_and_mark_what_separates_the_first_two(page, address, desk):
    # A crop of the gallery itself: a random network scores everything alike, and only the crop is clearly nearest.
    upload(page, desk / "yard" / "0001_c1s1_000000_00.jpg")
    settled(page)
    first = page.locator(".card").first
    names = first.locator(".bar-name").all_inner_texts()
    assert [name.split()[0] for name in names] == ["head", "torso", "torso", "legs", "legs", "shoes"]
    assert [name.replace("\n", " ").split()[-1] for name in names] == [f"stripe-{place}-of-6" for place in range(1, 7)]
    marked = [
        card.locator(".bar.is-separating .bar-name small").all_inner_texts() for card in page.locator(".card").all()
    ]
    assert marked[0] == marked[1]
    assert len(marked[0]) == 1
    assert not any(marked[2:])
    # The mark is that of the answer, dashed where the part does not separate both clearly.
    query = page.url.partition("query=")[2].partition("&")[0]
    found = page.request.post(f"{address}/api/v1/search", data={"query": query}).json()["separation"]
    assert marked[0] == [found["block"]]
    drawn = first.locator(".bar.is-separating").evaluate("(bar) => getComputedStyle(bar).outlineStyle")
    assert drawn == ("solid" if found["clear"] else "dashed")
    doubt = "" if found["clear"] else ", but not clearly"
    page.get_by_text("What the bars mean").click()
    assert f"The part that separates rank 1 from rank 2{doubt}." in page.locator(".legend").inner_text()


def test_verdicts_are_given_by_key_and_survive_a_reload(page, desk):
    upload(page, desk / "query.png")
    page.locator(".card").first.focus()
    answers = [("s", "same"), ("d", "different"), ("u", "unsure")]
    for key, _ in answers:
        with page.expect_response(re.compile("/feedback")) as sent:
            page.keyboard.press(key)
        assert sent.value.status == 201
        page.keyboard.press("ArrowRight")
    order = [crop for crop, _ in cards(page)]
    page.reload()
    settled(page)
    assert [crop for crop, _ in cards(page)] == order
    for place, (_, verdict) in enumerate(answers):
        pressed = page.locator(".card").nth(place).locator(".verdict[aria-pressed=true]")
        assert pressed.inner_text().strip().lower() == verdict
    assert page.locator(".card").nth(3).locator(".verdict[aria-pressed=true]").count() == 0


def test_a_crop_is_searched_by_a_click_and_its_picture_opens_in_a_dialog(page):
    go(page, "live")
    page.get_by_role("button", name=re.compile("^Search by crop 7$")).click()
    page.wait_for_url(re.compile("crop=7"))
    settled(page)
    assert 7 not in [crop for crop, _ in cards(page)]
    opened = page.locator(".card .crop-open").nth(1)
    opened.click()
    dialog = page.get_by_role("dialog")
    dialog.locator("img").wait_for()
    crop = cards(page)[1][0]
    assert dialog.get_by_role("heading").inner_text() == f"Crop {crop}"
    page.keyboard.press("ArrowRight")
    assert dialog.get_by_role("heading").inner_text() == f"Crop {cards(page)[2][0]}"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert opened.evaluate("(one) => one === document.activeElement")


SCALE = """async (text) => {
    const { scaled } = await import(new URL("uploads.js", document.baseURI).href);
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    const made = await scaled(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
    const sent = new Uint8Array(await made.arrayBuffer());
    let found = "";
    for (const one of sent) found += String.fromCharCode(one);
    return btoa(found);
}"""


def scaled(page, content):
    """What the page would upload of a JPEG file."""
    return base64.b64decode(page.evaluate(SCALE, base64.b64encode(content).decode()))


def test_big_photos_are_scaled_down_and_turned_before_they_travel(page):
    big = Image.new("RGB", (2400, 1600), (250, 0, 0))
    big.paste((0, 0, 250), (0, 0, 1200, 1600))
    turned = Image.Exif()
    turned[0x0112] = 6  # the left edge is the top
    file = io.BytesIO()
    big.save(file, "JPEG", exif=turned, quality=60)
    sent = Image.open(io.BytesIO(scaled(page, file.getvalue())))
    assert 1_900_000 < sent.width * sent.height <= 2_000_000
    assert sent.width / sent.height == pytest.approx(1600 / 2400, abs=0.01)
    assert sent.getexif().get(0x0112, 1) == 1
    top, bottom = (sent.getpixel((sent.width // 2, y)) for y in (20, sent.height - 20))
    assert top == pytest.approx((0, 0, 250), abs=8)
    assert bottom == pytest.approx((250, 0, 0), abs=8)


def test_small_pictures_travel_as_they_are(page, desk):
    content = next((desk / "yard").glob("*.jpg")).read_bytes()
    assert scaled(page, content) == content


LONG, SHORT = 451234567890123457, 12
SAID = f'{{"id":{LONG},"crop":{SHORT},"score":0.9421506524085999,"path":"1:{LONG},","ids":[{LONG},-1]}}'


def test_ids_of_63_bits_are_not_rounded(page):
    """A gallery on a server has such ids; JavaScript's own parser would give 451234567890123460."""
    read = "async (text) => JSON.stringify((await import(new URL('ids.js', document.baseURI).href)).parsed(text))"
    found = json.loads(page.evaluate(read, SAID))
    expected = json.loads(SAID)
    assert found == {**expected, "id": str(LONG), "ids": [str(LONG), -1]}
    written = "async (texts) => texts.map((await import(new URL('ids.js', document.baseURI).href)).idOf)"
    assert page.evaluate(written, [str(LONG), str(SHORT)]) == [str(LONG), SHORT]
