"""File names that people, cameras and attackers give."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ODD_NAMES = (
    b"0001_c1s1_000001_01.jpg",
    b"-rf_c1.jpg",
    b"--model=x.jpg",
    b"new\nline.jpg",
    b"tab\tname.jpg",
    b"latin1_\xe9\xff.jpg",
    "private \uefe9.jpg".encode(),
    "\u202egnp.jpg".encode(),
    "e\u0301_nfd.jpg".encode(),
    "\u00e9_nfc.jpg".encode(),
    "\u4eba\u7269 \U0001f9cd.jpg".encode(),
    b"n" * 250 + b".jpg",
    b"<img src=x onerror=alert(1)>.jpg",
    b"a'b\"c&d;e$(x)`y`.jpg",
    b"%41%2f%00.jpg",
    b" lead.jpg",
    b"trail .jpg",
    b"esc\x1b[31mred.jpg",
    b"query?x#frag.jpg",
    b"back\\slash.jpg",
    b"[x]*.jpg",
    b"{0}.jpg",
)
HIDDEN = (b".jpg", b"..jpg")


def save_odd_names(picture: Path, folder: Path) -> set[bytes]:
    """Copy a picture under odd names, and deep below; returns the paths that are not hidden, relative to the folder."""
    deep = "/".join(["d" * 200] * 12)
    (folder / deep).mkdir(parents=True)
    paths = {*ODD_NAMES, os.fsencode(deep) + b"/deep.jpg"}
    for path in (*paths, *HIDDEN):
        shutil.copy(picture, folder / os.fsdecode(path))
    return paths
