"""Tests of contact sheets and HTML reports: positions, escaping, and behaviour in a browser."""

import base64
import io
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rrid_edge.crops.naming import DISTRACTOR, JUNK, UNKNOWN
from rrid_edge.errors import OutputError, UsageError
from rrid_edge.matching import Match, MatchResult
from rrid_edge.matching.records import DIFFERENT, SAME
from rrid_edge.model.spec import block_names
from rrid_edge.pictures.contact_sheet import (
    BORDER_COLOURS,
    CROP_PX,
    SHEET_SUFFIXES,
    contact_sheet,
    write_sheet,
)
from rrid_edge.pictures.html import html_report, write_report
from rrid_edge.pictures.parts import MatchPictures, read_thumbnail

NAMES = block_names()
NOON_US = 1_795_608_000_000_000
"""2026-11-25, 12:00 UTC."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
GREEN, RED, GREY = (BORDER_COLOURS[key] for key in (SAME, DIFFERENT, UNKNOWN))


def block_scores(*stripes: float) -> tuple[float, ...]:
    return (*stripes, *([0.0] * (len(NAMES) - len(stripes))))


@pytest.fixture
def gallery(tmp_path):
    for name, colour in (("0001_c2.png", (250, 0, 250)), ("0002_c3.png", (0, 250, 250)), ("x.png", (250, 250, 0))):
        Image.new("RGB", (64, 128), colour).save(tmp_path / name)
    Image.new("RGB", (64, 128), (1, 2, 250)).save(tmp_path / "query.png")
    return tmp_path


@pytest.fixture
def result(gallery):
    return MatchResult(
        query=(str(gallery / "query.png"),),
        person="0001",
        camera="1",
        matches=(
            Match(1, 0.9, "0001_c2.png", "2", "0001", block_scores(0.2, -0.1)),
            Match(2, 0.8, "0002_c3.png", "10", "0002", block_scores(0.1)),
            Match(3, -0.25, "x.png"),
        ),
    )


def count(image: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == colour).all(axis=2).sum())


def columns_of(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((np.asarray(image) == colour).all(axis=2).any(axis=0))


def rows_of(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((np.asarray(image) == colour).all(axis=2).any(axis=1))


def test_crops_stand_in_the_order_of_their_rank_inside_the_border_of_their_verdict(gallery, result):
    sheet = contact_sheet([result], gallery, block_names=NAMES)
    expected = (((250, 0, 250), GREEN), ((0, 250, 250), RED), ((250, 250, 0), GREY))
    last = columns_of(sheet, (1, 2, 250)).max()  # the query's crop comes first
    for colour, border in expected:
        crop, frame = columns_of(sheet, colour), columns_of(sheet, border)
        assert count(sheet, colour) == CROP_PX[0] * CROP_PX[1]
        assert last < frame.min() < crop.min() < crop.max() < frame.max()
        last = frame.max()


@pytest.mark.parametrize("person", [None, "0001"])
def test_the_border_is_grey_where_a_person_is_not_known(gallery, result, person):
    matches = (Match(1, 0.9, "x.png", "2", None if person else "0001"),)
    unknown = MatchResult(query=result.query, person=person, matches=matches)
    sheet = contact_sheet([unknown], gallery, block_names=NAMES)
    assert count(sheet, GREY) > 1000
    assert count(sheet, GREEN) == count(sheet, RED) == 0


@pytest.mark.parametrize(
    ("person", "verdicts"),
    [
        ("0001", [SAME, DIFFERENT, JUNK, JUNK, DISTRACTOR, DISTRACTOR, UNKNOWN]),
        ("-1", [UNKNOWN] * 7),
        ("0000", [UNKNOWN] * 7),
        (None, [UNKNOWN] * 7),
    ],
)
def test_junk_and_distractors_are_neither_right_nor_wrong(gallery, person, verdicts):
    labels = ("0001", "0002", "-1", "junk", "0000", "00000000", None)
    matches = tuple(Match(rank, 0.9, "x.png", "2", label) for rank, label in enumerate(labels, 1))
    result = MatchResult((str(gallery / "query.png"),), matches, person)
    assert [result.verdict(match) for match in matches] == verdicts
    sheet = contact_sheet([result], gallery, block_names=NAMES)
    frame = count(contact_sheet([replace(result, matches=matches[-1:])], gallery, block_names=NAMES), GREY)
    assert [count(sheet, colour) for colour in (GREEN, RED)] == [frame * (SAME in verdicts)] * 2
    assert count(sheet, GREY) == frame * (7 - 2 * (SAME in verdicts))
    document = html_report([result], gallery, block_names=NAMES)
    words = {JUNK: "junk", DISTRACTOR: "distractor", UNKNOWN: "not known", SAME: "right", DIFFERENT: "wrong"}
    told = [words[judged] for judged in verdicts] if SAME in verdicts else []
    assert re.findall(r'<td class="verdict" data-value="([a-z ]*)">\1</td>', document) == told
    assert [phrase in document for phrase in ("verdict</button>", "not known", "Frames:")] == [bool(told)] * 3
    assert re.findall(r'<tr class="(\w+)">', document) == verdicts


def test_a_confirmed_label_outranks_the_file_name():
    crop = Match(1, 0.9, "0001_c2.png", "2", "0001")
    result = MatchResult(("q.png",), (crop,), "0001")
    labels = {"junk": JUNK, "-1": JUNK, "0": DISTRACTOR, "": SAME, "Ann": SAME}
    assert {label: result.verdict(replace(crop, label=label)) for label in labels} == labels
    # Somebody named a crop that the file name calls junk.
    assert result.verdict(replace(crop, person="-1", label="Ann")) == UNKNOWN


def test_person_0_of_a_dataset_that_numbers_people_from_0_is_a_person():
    name = "0000_{:03d}_01_0303morning_0015_0.jpg"
    msmt = MatchResult((f"query/{name.format(1)}",), (Match(1, 0.9, name.format(2), "2", "0000"),), "0000")
    assert msmt.verdict(msmt.matches[0]) == SAME
    market = MatchResult(("0001_c1s1_000001_00.jpg",), (Match(1, 0.9, "0000_c1s1_000002_00.jpg", "1", "0000"),), "0001")
    assert market.verdict(market.matches[0]) == DISTRACTOR


def test_labels_say_junk_in_place_of_a_number(gallery, result):
    """The words are drawn: a sheet with the label -1 equals one with the label junk, in the query's text too."""
    answers = [
        replace(result, person=label, matches=(Match(1, 0.9, "x.png", "2", label),)) for label in ("-1", "junk", "0000")
    ]
    sheets = [np.asarray(contact_sheet([answer], gallery, block_names=NAMES)) for answer in answers]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])
    document = html_report([replace(result, person="-1", matches=())], gallery, block_names=NAMES)
    assert '<div class="hint">junk (no verdicts) · camera 1</div>' in document


def test_more_matches_than_columns_continue_on_the_next_line(gallery, result):
    sheet = contact_sheet([result], gallery, block_names=NAMES, columns=1)
    tops = [rows_of(sheet, colour).min() for colour in ((250, 0, 250), (0, 250, 250), (250, 250, 0))]
    assert tops[0] + CROP_PX[1] < tops[1]
    assert tops[1] + CROP_PX[1] < tops[2] < sheet.height - CROP_PX[1]
    assert len({columns_of(sheet, colour).min() for colour in ((250, 0, 250), (0, 250, 250), (250, 250, 0))}) == 1


def test_each_query_is_a_row_and_several_images_of_one_stand_beside_each_other(gallery, result):
    several = MatchResult(query=(str(gallery / "query.png"),) * 5, matches=result.matches[:1])
    sheet = contact_sheet([result, several], gallery, block_names=NAMES)
    assert count(sheet, (1, 2, 250)) == (1 + 3) * CROP_PX[0] * CROP_PX[1]
    assert np.ptp(rows_of(sheet, (250, 0, 250))) > CROP_PX[1]


def test_footer_and_labels_are_drawn(gallery, result):
    with_footer = contact_sheet([result], gallery, block_names=NAMES, footer="model rrid.onnx")
    without = contact_sheet([result], gallery, block_names=NAMES)
    changed = np.flatnonzero((np.asarray(with_footer) != np.asarray(without)).any(axis=(1, 2)))
    assert changed.min() > rows_of(without, GREEN).max() + 20
    assert with_footer.size == without.size
    renamed = MatchResult(query=result.query, person="0001", matches=(Match(1, 0.9, "x.png", "2", "0001" * 40),))
    contact_sheet(
        [renamed], gallery, block_names=NAMES, footer="very long " * 200
    )  # the footer is cut, without an error


def test_an_unreadable_crop_is_a_grey_box_with_the_reason(gallery, result):
    (gallery / "broken.jpg").write_bytes(b"no image")
    matches = (Match(1, 0.9, "broken.jpg"), Match(2, 0.8, "gone\n<b>.jpg"))
    broken = MatchResult(query=(str(gallery / "query.png"),), matches=matches)
    sheet = contact_sheet([broken], gallery, block_names=NAMES)
    assert count(sheet, (226, 228, 232)) > 1.5 * CROP_PX[0] * CROP_PX[1]
    document = html_report([broken], gallery, block_names=NAMES)
    assert "no such file" in document
    assert "gone\\n&lt;b&gt;.jpg" in document


def test_no_match_is_said(gallery, result):
    empty = MatchResult(query=result.query, matches=(), threshold=0.7)
    blank = contact_sheet([MatchResult(query=result.query, matches=())], gallery, block_names=NAMES)
    assert np.any(np.asarray(contact_sheet([empty], gallery, block_names=NAMES)) != np.asarray(blank))
    document = html_report([empty], gallery, block_names=NAMES)
    assert "no match in the gallery at a score of 0.700 or more" in document
    assert "<table>" not in document


def test_a_crop_keeps_its_proportions(tmp_path):
    Image.new("RGB", (100, 50)).save(tmp_path / "wide.png")
    wide = read_thumbnail(tmp_path / "wide.png", 96, 192).image
    assert wide is not None
    assert wide.size == (96, 48)
    Image.new("RGB", (10, 80)).save(tmp_path / "tall.png")
    tall = read_thumbnail(tmp_path / "tall.png", 96, 192).image
    assert tall is not None
    assert tall.size == (24, 192)


@pytest.mark.parametrize("draw", [contact_sheet, html_report])
def test_wrong_input_is_refused_by_name(draw, gallery, result):
    with pytest.raises(UsageError, match="give at least one query image"):
        draw([], gallery, block_names=NAMES)
    foreign = MatchResult(query=result.query, matches=(Match(4, 0.5, "x.png", block_scores=(0.5,)),))
    with pytest.raises(UsageError, match=r"match of rank 4 has 1 block scores; expected 15.*: match again"):
        draw([foreign], gallery, block_names=NAMES)


def test_sheets_that_cannot_be_are_refused(gallery, result, tmp_path):
    with pytest.raises(UsageError, match="0 columns do not work; expected at least 1"):
        contact_sheet([result], gallery, block_names=NAMES, columns=0)
    with pytest.raises(
        UsageError, match=r"the sheet would have \d+ x \d+ pixels; draw fewer .* write a report instead"
    ):
        contact_sheet([result] * 1000, gallery, block_names=NAMES)
    image = Image.new("RGB", (8, 8))
    with pytest.raises(OutputError, match=r"sheet\.txt: a contact sheet is an image; end its name in one of \.jpeg"):
        write_sheet(tmp_path / "sheet.txt", image)
    with pytest.raises(OutputError, match="cannot be written"):
        write_sheet(gallery / "query.png" / "sheet.png", image)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(gallery / "query.png" / "report.html", "")


@pytest.mark.parametrize("suffix", sorted(SHEET_SUFFIXES))
def test_a_sheet_is_written_in_the_format_of_its_name(tmp_path, suffix):
    write_sheet(tmp_path / f"sheet{suffix}", Image.new("RGB", (40, 30), (200, 10, 10)))
    with Image.open(tmp_path / f"sheet{suffix}") as image:
        assert (image.format, image.size) == ({".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG"), (40, 30))
    assert [path.name for path in tmp_path.iterdir()] == [f"sheet{suffix}"]


class Outline(HTMLParser):
    """Collects tags with their attributes and the cell texts of table rows. Checks that all tags are closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_a_report_is_one_whole_document_with_the_thumbnails_inside(gallery, result):
    outline = Outline(html_report([result, result], gallery, block_names=NAMES, footer="model & engine"))
    assert outline.open == []
    heading, *rows = outline.rows[:4]
    assert heading == ["rank", "crop", "score", "parts", "camera", "person", "verdict", "path"]
    assert rows == [
        ["1", "", "0.900", "", "2", "0001", "right", "0001_c2.png"],
        ["2", "", "0.800", "", "10", "0002", "wrong", "0002_c3.png"],
        ["3", "", "-0.250", "", "", "", "not known", "x.png"],
    ]
    pictures = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(pictures) == 2 * 4
    prefix = "data:image/jpeg;base64,"
    for attributes, colour in zip(pictures, [(1, 2, 250), (250, 0, 250), (0, 250, 250), (250, 250, 0)], strict=False):
        source = attributes["src"] or ""
        assert source.startswith(prefix)
        with Image.open(io.BytesIO(base64.b64decode(source.removeprefix(prefix)))) as image:
            assert image.size == (64, 128)
            assert np.abs(np.asarray(image, dtype=int).mean((0, 1)) - colour).max() < 6
    assert not [tag for tag, _ in outline.tags if tag in ("link", "iframe", "object", "base")]
    assert not [value for _, attributes in outline.tags for key, value in attributes.items() if key == "href"]


HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=alert(1)>&amp;\udcff\n\u202e.jpg'


def hostile_report(gallery) -> str:
    match = Match(1, 0.5, HOSTILE, "1", "<b>1</b>")
    result = MatchResult(query=(str(gallery / HOSTILE),), matches=(match,), person="</h2><i>", camera="2")
    return html_report([result], gallery, block_names=NAMES, footer="</footer><script>1</script>")


def test_markup_in_names_shows_as_text(gallery):
    document = hostile_report(gallery)
    document.encode("utf-8")
    outline = Outline(document)
    assert outline.open == []
    assert [tag for tag, _ in outline.tags].count("script") == 1
    assert not [attributes for _, attributes in outline.tags if "onerror" in attributes]
    assert '"><script>document.title="owned"</script>' in outline.rows[1][-1]
    assert "\n" not in outline.rows[1][-1]
    assert "\u202e" not in document  # a name cannot reverse the direction of the line
    assert outline.rows[1][5] == "<b>1</b>"


def test_placeholders_of_the_templates_in_names_show_as_text(gallery):
    name = "$script${style}$$ %s {footer}.jpg"
    hostile = MatchResult(
        query=(str(gallery / name),), matches=(Match(1, 0.5, name, "1", "$rows"),), person="$sections"
    )
    document = html_report([hostile], gallery, block_names=NAMES, footer="$policy")
    outline = Outline(document)
    assert outline.rows[1][-1] == name
    assert outline.rows[1][5] == "$rows"
    assert "<footer>$policy</footer>" in document
    assert f"<h2>{name}</h2>" in document
    assert [tag for tag, _ in outline.tags].count("script") == [tag for tag, _ in outline.tags].count("style") == 1


def test_the_wheel_contains_the_templates(tmp_path):
    builders = pytest.importorskip("hatchling.builders.wheel")
    root = Path(__file__).parents[3]
    (wheel,) = builders.WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    folder = Path("rrid_edge/pictures/templates")
    expected = {(folder / file.name).as_posix() for file in (root / folder).iterdir()}
    assert {"report.html", "report.css", "report.js"} <= {Path(name).name for name in expected}
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def in_browser(tmp_path, document: str, script: str) -> str:
    """Load the page in a headless browser, run ``script``, and return the title that it sets."""
    page = tmp_path / "page.html"
    write_report(page, document.replace("</body>", f"<script>{script}</script></body>"))
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, profile]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)[:1]
    return title


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_sorts_by_the_heading_that_is_clicked(tmp_path, gallery, result):
    script = """
      const order = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].innerText).join("");
      const click = number => document.querySelectorAll("th")[number].querySelector("button").click();
      const seen = [order()];
      for (const number of [2, 2, 4, 4, 7, 7, 0, 0]) { click(number); seen.push(order()); }
      seen.push(document.querySelector("th").getAttribute("aria-sort"));
      seen.push(String([...document.images].every(image => image.complete && image.naturalWidth === 64)));
      document.title = seen.join(" ");
    """
    title = in_browser(tmp_path, html_report([result], gallery, block_names=NAMES), script)
    # Score best first, then lowest first; camera as numbers (2 before 10), unknown last both ways; path up and down;
    # rank up and down.
    assert title.split() == ["123", "123", "321", "123", "213", "123", "321", "123", "321", "descending", "true"]


def test_reranked_answers_show_the_distance_that_ranks_them(gallery, result):
    assert "distance" not in html_report([result], gallery, block_names=NAMES)
    first, second = result.matches[0], result.matches[1]
    matches = (replace(second, rank=1, distance=0.25), replace(first, rank=2, distance=0.5))
    outline = Outline(html_report([replace(result, matches=matches, reranked=20)], gallery, block_names=NAMES))
    assert [row[2:4] for row in outline.rows[1:]] == [["0.800", "0.250"], ["0.900", "0.500"]]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_runs_no_markup_of_a_file_name(tmp_path, gallery):
    script = """
      const cells = document.querySelectorAll("tbody tr")[0].cells;
      const safe = document.title !== "owned" && cells[7].innerText.startsWith('"><script>document.title="owned"')
        && document.querySelectorAll("script").length === 2 && !document.querySelector("[onerror]");
      document.title = safe ? "safe" : "owned";
    """
    assert in_browser(tmp_path, hostile_report(gallery), script) == "safe"


def timed(result: MatchResult) -> MatchResult:
    first, second, third = result.matches
    matches = (replace(first, time=NOON_US, label="anna"), replace(second, frame=451), third)
    return replace(result, matches=matches, warnings=("q.jpg: <flat>",))


def test_times_frames_labels_and_warnings_are_shown(gallery, result):
    document = html_report([timed(result)], gallery, block_names=NAMES)
    heading, *rows = Outline(document).rows
    assert heading == ["rank", "crop", "score", "parts", "camera", "person", "time", "verdict", "path"]
    assert [row[4:7] for row in rows] == [["2", "anna", "2026-11-25T12:00:00Z"], ["10", "0002", "frame 451"], [""] * 3]
    # On top, and with its query.
    assert document.count('<p class="warning">q.jpg: &lt;flat&gt;</p>') == 2
    assert '<p class="warning">' not in html_report([result], gallery, block_names=NAMES)
    with_times, without = (contact_sheet([shown], gallery, block_names=NAMES) for shown in (timed(result), result))
    assert with_times.size == without.size
    changed = np.argwhere((np.asarray(with_times) != np.asarray(without)).any(axis=2))
    assert changed[:, 0].min() > rows_of(without, GREEN).max()  # below the crops


def test_only_crops_of_the_own_source_are_read_from_the_folder(gallery, result):
    """Another source may have another person's picture under the same path."""
    jpeg = io.BytesIO()
    Image.new("RGB", (96, 192), (255, 255, 255)).save(jpeg, "JPEG")
    own, other = result.matches[0], replace(result.matches[1], path="0001_c2.png", source="north", id=2)
    memory = replace(result.matches[2], path=None, id=3)
    shown = replace(result, matches=(own, other, memory))
    pictures = MatchPictures(gallery, "local", {2: jpeg.getvalue(), 3: b"damaged"})
    sheet = contact_sheet([shown], pictures, block_names=NAMES)
    assert count(sheet, (250, 0, 250)) == CROP_PX[0] * CROP_PX[1]  # the own crop only
    document = html_report([shown], pictures, block_names=NAMES)
    assert document.count("data:image/jpeg") == 3  # query, own crop, thumbnail
    assert Outline(document).rows[3][-1] == "#3"
    nowhere = contact_sheet([shown], MatchPictures(None), block_names=NAMES)
    assert count(nowhere, (250, 0, 250)) == 0
    assert "no picture of this crop is stored here" in html_report([shown], MatchPictures(None), block_names=NAMES)


def test_only_the_owner_can_read_sheets_and_reports(tmp_path, result):
    (tmp_path / "a.html").touch(mode=0o644)
    write_report(tmp_path / "a.html", "")
    write_sheet(tmp_path / "a.png", Image.new("RGB", (8, 8)))
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.html", "a.png")] == [0o600] * 2


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_sorts_camera_names(tmp_path, gallery, result):
    cameras = ("lobby", "dock-10", "dock-2", "3", None)
    matches = tuple(Match(rank, 0.5, "x.png", camera) for rank, camera in enumerate(cameras, 1))
    script = """
      const order = () => [...document.querySelectorAll("tbody tr")].map(row => row.cells[0].innerText).join("");
      document.querySelectorAll("th")[4].querySelector("button").click();
      document.title = order();
    """
    document = html_report([replace(result, matches=matches)], gallery, block_names=NAMES)
    assert in_browser(tmp_path, document, script) == "43215"


def test_a_link_that_leads_out_is_drawn_only_if_asked(tmp_path):
    (tmp_path / "crops").mkdir()
    for path in (tmp_path / "private.jpg", tmp_path / "crops" / "b.jpg"):
        Image.new("RGB", (30, 60)).save(path)
    (tmp_path / "crops" / "a.jpg").symlink_to(tmp_path / "private.jpg")
    (tmp_path / "crops" / "c.jpg").symlink_to("b.jpg")
    for name, follow_links, is_drawn in (("a.jpg", False, False), ("a.jpg", True, True), ("c.jpg", False, True)):
        found = Match(1, 0.5, name)
        pictures = MatchPictures(tmp_path / "crops", follow_links=follow_links)
        thumbnail = pictures.read(found, 60, 120)
        assert (thumbnail.image is not None) is is_drawn
        assert thumbnail.problem == ("" if is_drawn else "this file is a link that leads out of its folder")
