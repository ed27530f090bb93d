"""The image formats that are read, told by the first bytes of a file; its name decides nothing."""

from __future__ import annotations

import importlib
import re
from typing import Final

FORMATS: Final = "JPEG, PNG, BMP, WebP, TIFF, PPM (PGM, PBM) or GIF"
"""The formats that are read, for messages. The first picture of an MPO file is a JPEG picture."""
HEAD_BYTES: Final = 64
"""Bytes at the start of a file that tell its format."""

_PLUGINS: Final = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "GIF": "GifImagePlugin",
}
"""Pillow's module of each format. Without its import, Pillow imports the modules of all formats that it knows."""
_MAGIC: Final = (
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
_REFUSED: Final = (
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
    ("a ZIP archive", rb"PK\x03\x04"),
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


def format_of(head: bytes) -> str | None:
    """Pillow's name of the format of a file that can be read, or None.

    Args:
        head: the first :data:`HEAD_BYTES` bytes of the file, or more.
    """
    found = (name for name, magic in _MAGIC if re.match(magic, head, re.DOTALL))
    name = next(found, None)
    if name is not None:
        importlib.import_module(f"PIL.{_PLUGINS[name]}")
    return name


def why_refused(head: bytes) -> str:
    """What a file is that is not of a format that is read, and what to do, in one line.

    Args:
        head: the first :data:`HEAD_BYTES` bytes of the file, or more.
    """
    if not head:
        return f"not an image, but an empty file; expected {FORMATS}: fetch it again"
    what = next((what for what, magic in _REFUSED if re.match(magic, head[:512], re.DOTALL)), None)
    if what is None:
        return f"not an image of a known format; expected {FORMATS}"
    return f"{what}, which is not read; expected {FORMATS}: convert or replace it"
