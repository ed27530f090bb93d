"""What people type: names from memory, quotes, patterns, empty values, links, pictures of odd kinds, mixed-up options.

Each is refused with one line, or means what its writer meant.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.commands import rrid_edge
from support.mistakes import desk, ends_with

__all__ = ["desk"]
IMAGE = "expected an image, for example a JPEG crop of one person"
GALLERY = "the last argument is the gallery: a folder of crops, or milvus+http://HOST:19530/COLLECTION"
FORMATS = "JPEG, PNG, BMP, WebP, TIFF, PPM (PGM, PBM) or GIF"
EMPTY = "is empty, as an unset variable of the shell is; expected a value"
TIMES = (
    "expected ISO 8601 such as 2026-11-25T17:30:15+01:00, a date such as 2026-11-25, a duration before now such as "
    "30m, 2h or 7d, or a frame number"
)
QUOTED_HOME = "(within quotes ~ is not replaced: leave them out)"
NO_PATTERN = "(no file fits this pattern, or it is in quotes)"
LATER = "{}, whose pictures are read: the next command would take the sheet for one; give a path outside of it"

REFUSED = {
    # Names that the shell passed on as they are.
    "match '~/query.jpg' gallery": f"~/query.jpg: no such file {QUOTED_HOME}; {IMAGE}",
    "match query.jpg '~/gallery'": f"~/gallery: no such folder {QUOTED_HOME}; {GALLERY}",
    "index '~/gallery'": f"~/gallery: no such folder {QUOTED_HOME}; give a folder of image files",
    "match '*.jpg' gallery": f"*.jpg: no such file {NO_PATTERN}; {IMAGE}",
    "index 'gal*'": f"gal*: no such folder {NO_PATTERN}; give a folder of image files",
    """match "'query.jpg'" gallery""": (
        f"'query.jpg': no such file (the quotes are part of this name: leave them out); {IMAGE}"
    ),
    "match two words.jpg gallery": "two: no such file; expected a name with spaces in quotes: 'two words.jpg'",
    "match query.jpg my crops": "my: no such file; expected a name with spaces in quotes: 'my crops'",
    "index my crops": (
        "index: 'crops' is too much; expected FOLDER, and a name with spaces in quotes: 'my crops'; for example: "
        "rrid-edge index demo/gallery --model demo/models/rrid.onnx"
    ),
    "match -dash.jpg gallery": (
        "match: there is no option -d; expected a file whose name begins with - written as ./-dash.jpg; see: rrid-edge "
        "match --help"
    ),
    # Rates in per cent, or of nothing.
    "match query.jpg gallery --fpr 2": (
        "a rate of 2 does not work: expected more than 0 and less than 1, for example 0.01 (option --fpr)"
    ),
    "match query.jpg gallery --fpir 0": (
        "a rate of 0 does not work: expected more than 0 and less than 1, for example 0.01 (option --fpir)"
    ),
    "match query.jpg gallery --fpr nan": (
        "a rate of nan does not work: expected more than 0 and less than 1, for example 0.01 (option --fpr)"
    ),
    # Names from memory.
    "match query.jgp gallery": f"query.jgp: no such file (did you mean query.jpg?); {IMAGE}",
    "match Query.JPG gallery": f"Query.JPG: no such file (did you mean query.jpg?); {IMAGE}",
    "match query.jpg galery": f"galery: no such folder (did you mean gallery?); {GALLERY}",
    "index galery": "galery: no such folder (did you mean gallery?); give a folder of image files",
    "doctor models/rird.onnx": (
        "models/rird.onnx: no such model file (did you mean models/rrid.onnx?); give another one (argument MODEL)"
    ),
    "export nett.pth": (
        "nett.pth: no such checkpoint (did you mean net.pth?); give a file of rrid-edge train or of the published "
        "training"
    ),
    "train --dataset-path dataa": (
        "dataa: no such dataset folder (did you mean data?); make one with rrid-edge demo-data, or give a folder in "
        "Market-1501 style (option --dataset-path)"
    ),
    "prepare folders galery out": (
        "galery: no such folder (did you mean gallery?); give the folder of the original dataset"
    ),
    # Values of variables that are not set.
    "match '' gallery": f"match: QUERY... GALLERY {EMPTY}; see: rrid-edge match --help",
    "match query.jpg ''": f"match: QUERY... GALLERY {EMPTY}; see: rrid-edge match --help",
    "match query.jpg gallery --gallery ''": f"match: option --gallery {EMPTY}; see: rrid-edge match --help",
    "match query.jpg gallery --camera ''": f"match: option --camera {EMPTY}; see: rrid-edge match --help",
    "match query.jpg gallery --model=": f"match: option --model {EMPTY}; see: rrid-edge match --help",
    "index ''": f"index: FOLDER {EMPTY}; see: rrid-edge index --help",
    "gallery copy gallery ''": f"gallery copy: DESTINATION {EMPTY}; see: rrid-edge gallery copy --help",
    "gallery forget '' --person 1": f"gallery forget: FOLDER {EMPTY}; see: rrid-edge gallery forget --help",
    "demo-data ''": f"demo-data: OUT {EMPTY}; see: rrid-edge demo-data --help",
    "train --dataset-path data --exp-dir ''": f"train: option --exp-dir {EMPTY}; see: rrid-edge train --help",
    # Numbers and times.
    "match query.jpg gallery --top-k -1": "top_k -1 does not work: expected at least 1 (option --top-k)",
    "match query.jpg gallery --top-k 1e3": (
        "match: option --top-k is '1e3'; expected a whole number; see: rrid-edge match --help"
    ),
    "match query.jpg gallery --top-k ''": (
        "match: option --top-k is ''; expected a whole number; see: rrid-edge match --help"
    ),
    "match query.jpg gallery --threshold 2": (
        "threshold 2.0 is not a cosine: expected a number from -1 to 1 (option --threshold)"
    ),
    "match query.jpg gallery --threshold nan": (
        "threshold nan is not a cosine: expected a number from -1 to 1 (option --threshold)"
    ),
    "match query.jpg gallery --threshold 70%": (
        "match: option --threshold is '70%'; expected a number, with a point for decimals; see: rrid-edge match --help"
    ),
    "match query.jpg gallery --expand -1": "expand -1 does not work: expected 0 or more (option --expand)",
    "match query.jpg gallery --since 2026-11-25T17:30+25:00": (
        f"'2026-11-25T17:30+25:00' is neither a time nor a frame: {TIMES} (option --since)"
    ),
    "match query.jpg gallery --since 2026-13-45": (
        f"'2026-13-45' is neither a time nor a frame: {TIMES} (option --since)"
    ),
    "match query.jpg gallery --until -5m": f"'-5m' is neither a time nor a frame: {TIMES} (option --until)",
    "match query.jpg gallery --since 10 --until 5": (
        "since '10' is later than until '5', so no crop fits; expected the earlier one first: exchange them (option "
        "--since, option --until)"
    ),
    # Places.
    "index gallery --gallery gallery": (
        "gallery: these are the crops, and the index would lie among them; give another folder for the index, or leave "
        "it out (option --gallery)"
    ),
    "match query.jpg gallery --gallery ./gallery/": (
        "gallery: these are the crops, and the index would lie among them; give another folder for the index, or leave "
        "it out (option --gallery)"
    ),
    "match query.jpg gallery --sheet ''": f"match: option --sheet {EMPTY}; see: rrid-edge match --help",
    "match query.jpg gallery --sheet .png": (
        ".png: a contact sheet is an image; end its name in one of .jpeg, .jpg, .png, .webp"
    ),
    "match gallery gallery --sheet gallery/s.png": f"gallery/s.png: this lies in {LATER.format('gallery')}",
    "match - gallery": f"-: no such file (standard input is not read); {IMAGE}",
    "match HTTPS://example.com/a.jpg gallery": (
        "an address of the web is given as a query; expected image files: download it first"
    ),
    "match s3://bucket/a.jpg gallery": (
        "an address of the web is given as a query; expected image files: download it first"
    ),
    "match query.jpg s3://bucket/g": (
        "s3://bucket/g: not a location of a gallery; expected a folder or milvus+http://HOST:19530/COLLECTION"
    ),
    "match dead.jpg gallery": f"dead.jpg: no such file (this is a link that leads nowhere); {IMAGE}",
    "match loop gallery": f"loop: no such file (this is a link that leads nowhere); {IMAGE}",
    "index loop": "loop: no such folder (this is a link that leads nowhere); give a folder of image files",
    # Options and commands.
    "match query.jpg gallery --jsn": (
        "match: there is no option --jsn; did you mean --json? See: rrid-edge match --help"
    ),
    "match query.jpg gallery -- --top-k 3": f"3: no such folder; {GALLERY}",
    "index gallery --workers 0": ("index: option --workers is '0'; expected at least 1; see: rrid-edge index --help"),
    # Pictures that are not read.
    "match cmyk.jpg gallery": (
        "cmyk.jpg: CMYK colours, whose RGB values depend on a print profile; convert the file to RGB"
    ),
    "match deep.png gallery": "deep.png: pixel format 'I;16' (more than 8 bits per channel, or no RGB); convert ...",
    "match alpha.png gallery": (
        "alpha.png: transparent pixels, whose colour is undefined; save the crop without transparency"
    ),
    "match anim.gif gallery": ("anim.gif: an animation or a file of several pages; save one frame as JPEG or PNG"),
    "match anim.webp gallery": ("anim.webp: an animation or a file of several pages; save one frame as JPEG or PNG"),
    "match two.tiff gallery": "two.tiff: a file of 2 pages; save one of them as JPEG or PNG",
    "match dot.png gallery": "dot.png: 1 x 1 pixels; expected at least 8 x 8: give a larger crop",
    "match line.png gallery": "line.png: 20000 x 1 pixels; expected at least 8 x 8: give a larger crop",
    "match zero.jpg gallery": f"zero.jpg: not an image, but an empty file; expected {FORMATS}: fetch it again",
    "match pipe.jpg gallery": "pipe.jpg: no ordinary file; expected an image file",
    "match /dev/null gallery": "/dev/null: no ordinary file; expected an image file",
    "match door.mp4 gallery": (
        f"door.mp4: a video (MP4 or QuickTime), which is not read; expected {FORMATS}: convert or replace it"
    ),
}
"""Command lines, and the last line on stderr. All end with code 2."""

MEANT = {
    "match ./query.jpg ./gallery/": ["query.jpg"],
    "match query.jpg gallery/.": ["query.jpg"],
    "match --top-k 10 query.jpg gallery": ["query.jpg"],
    "match query.jpg --top-k 10 gallery": ["query.jpg"],
    "match query.jpg gallery --top-k 99999999999999999999": ["query.jpg"],
    "match query.jpg gallery --top-k 2 --top-k 10": ["query.jpg"],
    "match query.jpg gallery --threshold -0.9": ["query.jpg"],
    "match 'two words.jpg' gallery": ["two words.jpg"],
    """match "it's.jpg" gallery""": ["it's.jpg"],
    "match 'star*.jpg' gallery": ["star*.jpg"],
    "match ./-dash.jpg gallery": ["-dash.jpg"],
    "match -- -dash.jpg gallery": ["-dash.jpg"],
    "match query.jpg query.jpg gallery": ["query.jpg", "query.jpg"],
    "match opaque.png gallery": ["opaque.png"],
    "match one.gif gallery": ["one.gif"],
    "match palette.png gallery": ["palette.png"],
    "match photo.webp gallery": ["photo.webp"],
    "match turned.jpg gallery": ["turned.jpg"],
}
"""Command lines that look odd and mean the same: the query is the first crop of the gallery, which answers first."""


@pytest.fixture
def typed(desk):
    """The folder with names and pictures of odd kinds."""
    picture = Image.open("query.jpg")
    picture.convert("CMYK").save("cmyk.jpg")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save("deep.png")
    clear = picture.convert("RGBA")
    clear.save("opaque.png")
    clear.putalpha(128)
    clear.save("alpha.png")
    for name in ("anim.gif", "anim.webp", "two.tiff"):
        picture.save(name, save_all=True, append_images=[picture.rotate(180)])
    picture.save("one.gif")
    picture.convert("P").save("palette.png")
    picture.save("photo.webp", lossless=True)
    facts = picture.getexif()
    facts[0x0112] = 6  # turn it by 90 degrees to the right: it is stored turned to the left
    picture.rotate(90, expand=True).save("turned.jpg", exif=facts, quality=95)
    Image.new("RGB", (1, 1)).save("dot.png")
    Image.new("RGB", (20_000, 1)).save("line.png")
    Path("zero.jpg").write_bytes(b"")
    os.mkfifo("pipe.jpg")
    for name in ("two words.jpg", "it's.jpg", "star*.jpg", "-dash.jpg"):
        shutil.copy("query.jpg", name)
    Path("my crops").mkdir()
    Path("loop").symlink_to("loop")
    Path("dead.jpg").symlink_to("nowhere.jpg")
    return desk


@pytest.mark.parametrize("words", REFUSED)
def test_it_is_refused(typed, words):
    ends_with(shlex.split(words), 2, REFUSED[words])


@pytest.mark.parametrize("words", MEANT)
def test_it_means_what_was_meant(typed, words):
    outcome = rrid_edge(*shlex.split(words))
    assert outcome.code == 0, outcome
    lines = outcome.out.splitlines()
    named = [Path(name).name for name in lines[0].removeprefix("query ").split(", ")]
    assert named == MEANT[words]
    assert lines[2].endswith("  0001_c1s1_000000_00.jpg"), outcome.out


def test_names_of_cameras_and_people_that_are_written_otherwise(typed):
    assert rrid_edge("index", "gallery").code == 0
    listed = rrid_edge("gallery", "list", "gallery", "--camera", "02")
    assert listed.out == rrid_edge("gallery", "list", "gallery", "--camera", "2").out != ""
    for words in (["--camera", "c2"], ["--camera", "1,2"], ["--person", "1"], ["--path", "["]):
        outcome = rrid_edge("gallery", "list", "gallery", *words)
        assert (outcome.code, outcome.out) == (0, "")
        told = "no crop passes the filters; the gallery's 8 crops have cameras 1 (3), 2 (3), 3 (2); no times; frames "
        assert outcome.err.splitlines()[-1].startswith(told), outcome.err


def test_one_odd_picture_of_a_folder_stops_no_other(typed):
    Path("mixed").mkdir()
    for name in ("query.jpg", "cmyk.jpg", "deep.png", "anim.gif", "dot.png", "zero.jpg", "pipe.jpg", "note.txt"):
        Path(name).rename(Path("mixed") / name)
    outcome = rrid_edge("match", "mixed", "gallery", "--sheet", "s.png", "--report", "r.html")
    assert outcome.code == 0, outcome
    assert outcome.out.splitlines()[0] == "query mixed/query.jpg"
    assert outcome.err.count("left out mixed/") == 6
    assert rrid_edge("index", "mixed").out.startswith("mixed: 1 crops (1 added, 0 changed, 0 removed, 0 unchanged, 5 ")
