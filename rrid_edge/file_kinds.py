"""What a file is, told by its first bytes: pictures that are read, and everything that people give in their place.

Of a path that leads nowhere, it says what was meant, perhaps.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rrid_edge.errors import printable

HEAD_BYTES: Final = 512
"""Bytes at the start of a file that :func:`what_is` looks at."""
ZIP, TAR = "a ZIP archive", "a tar archive"
ONNX: Final = "an ONNX file"
TORCH: Final = "a PyTorch checkpoint"
SAFETENSORS: Final = "a safetensors checkpoint"
PICTURES: Final = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    ("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
    ("PPM", rb"P[1-6][\s#]"),
    # The size of a bitmap's header, one plane.
    ("DIB", rb"\x0c\0\0\0.{4}\x01\0|[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0"),
)
"""Pillow's name of each format of pictures that is read, and how its files begin."""
OTHERS: Final = (
    ("an AVIF picture", rb".{4}ftypavi[fs]"),
    ("a HEIF picture (HEIC)", rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif[12]|msf1|miaf)"),
    ("a camera's raw file (Canon CR3)", rb".{4}ftypcrx "),
    ("a video (MP4 or QuickTime)", rb".{4}(?:ftyp|moov|mdat|wide)"),
    ("a JPEG 2000 picture", rb"\0\0\0\x0cjP\x20\x20|\xff\x4f\xff\x51"),
    ("a JPEG XL picture", rb"\0\0\0\x0cJXL\x20|\xff\x0a"),
    ("a PostScript file (EPS)", rb"%!|\xc5\xd0\xd3\xc6|\x04%!"),
    ("a PDF document", rb"%PDF"),
    ("a Photoshop picture (PSD)", rb"8BPS"),
    ("an icon (ICO or CUR)", rb"\0\0[\x01\x02]\0[^\0]\0"),
    ("an icon (ICNS)", rb"icns"),
    ("a DDS texture", rb"DDS\x20"),
    ("a QOI picture", rb"qoif"),
    ("an OpenEXR picture", rb"\x76\x2f\x31\x01"),
    ("a Radiance HDR picture", rb"#\?R"),
    ("a PFM picture (floating-point numbers)", rb"P[Ff]\s"),
    ("a PAM picture", rb"P7\s"),
    ("a camera's raw file", rb"FUJIFILMCCD-RAW|IIRO|IIRS|IIU\0|\0MRM|FOVb"),
    ("a JPEG XR picture", rb"II\xbc"),
    ("a FITS image", rb"SIMPLE\x20\x20="),
    ("an HDF5 file", rb"\x89HDF"),
    ("an animation (MNG or JNG)", rb"\x8a[MJ]NG|\x8bJNG"),
    ("an SGI picture", rb"\x01\xda[\0\x01][\x01\x02]"),
    ("a Sun raster picture", rb"\x59\xa6\x6a\x95"),
    ("a PCX picture", rb"\x0a[\0-\x05]\x01[\x01\x02\x04\x08]"),
    ("an MSP picture", rb"DanM|LinS"),
    ("a BLP texture", rb"BLP[12]"),
    ("an IM picture", rb"Image type:"),
    ("weather data (BUFR or GRIB)", rb"BUFR|GRIB"),
    ("an XPM picture", rb"/\* XPM"),
    ("an XBM picture", rb"#define\s"),
    ("an SVG drawing", rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*)?<svg"),
    ("a web page or an XML file", rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|!DOCTYPE|!doctype|html|HTML)"),
    ("a Windows metafile (WMF or EMF)", rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36}\x20EMF"),
    ("a GIMP picture (XCF)", rb"gimp xcf"),
    ("a WAV or AVI file", rb"RIFF"),
    ("a Matroska or WebM video", rb"\x1a\x45\xdf\xa3"),
    (TORCH, rb"PK\x03\x04.{26}[^/\0]+/(?:data\.pkl|\.format_version|byteorder)|\x80[\x02-\x05]"),
    (SAFETENSORS, rb"[^\0].{2}\0{5}\{\""),
    ("arrays of NumPy", rb"PK\x03\x04.{26}[^/\0]+\.npy|\x93NUMPY"),
    ("a database of SQLite", rb"SQLite format 3\0"),
    (ONNX, rb"\x08[\x03-\x20]\x12.[\w.\- ]{3}"),
    ("an archive (RAR or 7z)", rb"Rar!|7z\xbc\xaf"),
    (TAR, rb".{257}ustar"),
    (ZIP, rb"PK\x03\x04"),
    ("compressed data (gzip)", rb"\x1f\x8b"),
    ("compressed data (xz, Zstandard or bzip2)", rb"\xfd7zXZ|\x28\xb5\x2f\xfd|BZh"),
    ("an Office document", rb"\xd0\xcf\x11\xe0"),
    ("a Git LFS pointer in place of its file (git lfs pull fetches it)", rb"version https://git-lfs"),
    ("a file that starts with zeros only; its writing was not finished, perhaps", rb"\0{32}"),
    # Colour map, kind, colour map's size; x, y, width, height; bits.
    (
        "a TGA picture",
        rb".[\0\1][\1-\3\x09-\x0b].{9}(?!\0\0)..(?!\0\0)..[\x08\x0f\x10\x18\x20][\0-\x3f]",
    ),
)
"""Other files, as messages name them, and how they begin. The first that fits is it."""
_MOST_NAMES: Final = 500
"""Entries of a folder that are compared with a mistyped name."""
_MOST_WORDS: Final = 8
"""Words of a name with spaces."""
_NEAR: Final = 0.8
_JSON: Final = rb"(?:\xef\xbb\xbf)?\s*[\[{]"


def other_kind(head: bytes) -> str | None:
    """What a file is that is no picture that is read, for example ``a PDF document``; None if nobody knows.

    Args:
        head: the first bytes of the file.
    """
    return next((what for what, magic in OTHERS if re.match(magic, head[:HEAD_BYTES], re.DOTALL)), None)


def what_is(head: bytes) -> str | None:
    """What any file is, for example ``a JPEG picture`` or ``a text file``; None if nobody knows.

    Args:
        head: the first :data:`HEAD_BYTES` bytes of the file, or all of a shorter one.
    """
    picture = next((name for name, magic in PICTURES if re.match(magic, head, re.DOTALL)), None)
    if picture is not None:
        return f"a {picture} picture"
    kind = other_kind(head)
    if kind is None and _is_text(head):
        kind = "a JSON file" if re.match(_JSON, head) else "a text file"
    return kind


def kind_of_file(path: Path) -> str | None:
    """What a file is, as :func:`what_is` says it; None also for one that cannot be read."""
    try:
        if not path.is_file():  # a pipe would wait for its writer
            return None
        with path.open("rb") as stream:
            return what_is(stream.read(HEAD_BYTES))
    except OSError:
        return None


def why_no_file(path: Path, what: str) -> str:
    """What is wrong with a path that is no ordinary file, as a part of a message.

    Args:
        path: it may lead nowhere, or to a folder, a pipe or a device.
        what: what was expected, for example ``model file``.
    """
    if path.is_dir():
        return f"this is a folder, expected a {what}"
    if path.exists():
        return f"this is no ordinary file, expected a {what}"
    return no_such(path, what)


def no_such(path: str | Path, what: str) -> str:
    """What is wrong with a path that leads nowhere, as a part of a message, and what was meant, if it shows.

    Args:
        path: as the user gave it.
        what: what was expected, for example ``folder``.

    Returns:
        For example ``no such folder (did you mean gallery?)``.
    """
    hint = _hint(Path(path))
    return f"no such {what} ({hint})" if hint else f"no such {what}"


def broken_name(words: Sequence[str]) -> tuple[str, str] | None:
    """A name with spaces that a shell took for several words: its first word, and the name; None if there is none.

    Args:
        words: arguments of a command. The name is that of a file or a folder; the first word alone is not.
    """
    for start in range(len(words)):
        if _exists(words[start]):
            continue
        for end in range(start + 2, min(len(words), start + _MOST_WORDS) + 1):
            if _exists(name := " ".join(words[start:end])):
                return words[start], name
    return None


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long, or with a zero
        return False


def _hint(path: Path) -> str:
    text = str(path)
    if text == "-":
        return "standard input is not read"
    if path.is_symlink():
        return "this is a link that leads nowhere"
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        return "the quotes are part of this name: leave them out"
    if text.startswith("~"):
        return "within quotes ~ is not replaced: leave them out"
    if any(sign in text for sign in "*?["):
        return "no file fits this pattern, or it is in quotes"
    nearest = _nearest(path)
    return f"did you mean {printable(nearest)}?" if nearest is not None else ""


def _nearest(path: Path) -> Path | None:
    """The entry of a folder whose name is nearest to a mistyped one; None if none is near, or the folder is large."""
    import difflib  # only after a mistake

    try:
        with os.scandir(path.parent) as listing:
            names = [entry.name for entry in itertools.islice(listing, _MOST_NAMES + 1)]
    except OSError:
        return None
    if len(names) > _MOST_NAMES:
        return None
    lower = {name.lower(): name for name in names if not name.startswith(".")}
    found = difflib.get_close_matches(path.name.lower(), lower, n=1, cutoff=_NEAR)
    return path.with_name(lower[found[0]]) if found and path.name else None


def _is_text(head: bytes) -> bool:
    """Whether these bytes are UTF-8 without control characters. The last character may be cut off."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) - error.start > 3 or error.start == 0:
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text.strip()) and all(char.isprintable() or char in "\t\r\n\f\ufeff" for char in text)
