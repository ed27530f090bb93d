"""Damaged images, given to the functions through which the whole package reads images."""

from __future__ import annotations

import contextlib
import functools
import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fuzzing.exif import odd_exif, with_exif, with_right_checksums
from fuzzing.image_seeds import FORMATS, ImageFormat, huge_files, picture
from fuzzing.mutations import mutate
from fuzzing.watching import FAULT, REFUSED, SOUND, Sentry
from rrid_edge.crops.images import MAX_PIXELS, load_rgb, read_image, read_image_bytes, resize
from rrid_edge.embedding.process import DecodingProcess
from rrid_edge.errors import ImageError, printable

_NAMES: Final = tuple(FORMATS)
_SIZES_PX: Final = ((32, 64), (20, 31), (24, 48), (64, 128), (9, 16))
_PICTURES: Final = 3
_HUGE: Final = "huge"
_HUGE_EVERY: Final = 400
_READS = 12
_SUFFIXES: Final = (".jpg", ".JPEG", ".png", ".bmp", ".webp", ".ppm", ".tif", ".TIFF", ".gif")
_HEIGHT_PX, _WIDTH_PX = 32, 16
_TURNED: Final = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a stored picture, by its orientation (TIFF 6.0 and EXIF 2.3)."""


@dataclass(frozen=True)
class ImageCase:
    """A damaged image.

    Attributes:
        name: of the file.
        content: its bytes.
        damage: names of the damages; empty if there is none.
        must_read: True: it must be read; False: it must be refused; None: either.
        expected: what reading may give, if ``must_read``; empty if that is unknown.
    """

    name: str
    content: bytes
    damage: str
    must_read: bool | None = None
    expected: tuple[Image.Image, ...] = ()


class ImageCases:
    """Case ``number`` is a file of the format ``number % len(FORMATS)``; with ``huge``, some are huge pictures.

    Args:
        seed: of all cases.
        count: how many there are.
        huge: make pictures of as many pixels as the package reads too. That takes 20 s.
    """

    def __init__(self, seed: int, count: int, *, huge: bool = False) -> None:
        self.count = count
        self.only_reads = True
        self._seed = seed
        self._sound = _sound_files()
        self._huge = huge_files(MAX_PIXELS) if huge else []
        self._sentry: Sentry | None = None
        self._decoder: DecodingProcess | None = None
        self._folder = Path()

    def start(self, folder: Path) -> None:
        """Start the watch on files."""
        self._folder = folder
        self._sentry = self._sentry or Sentry()
        Image.init()

    def stop(self) -> None:
        """End the decoding process."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def kind(self, number: int) -> str:
        """The format of a case."""
        return _HUGE if self._huge and number % _HUGE_EVERY == 0 else _NAMES[number % len(_NAMES)]

    def make(self, number: int) -> ImageCase:
        """Make a case; always the same one."""
        generator = random.Random(f"image {self._seed} {number}")
        kind = self.kind(number)
        if kind == _HUGE:
            suffix, content = generator.choice(self._huge)
            damaged, damage = mutate(content, generator, [content])
            return ImageCase(f"huge {number}{suffix}", *generator.choice(((content, ""), (damaged, damage))))
        form = FORMATS[kind]
        sides, content, others = self._chosen(kind, generator)
        what = generator.random()
        if what < 0.04:
            return ImageCase(f"sound {number}{form.suffix}", content, "", form.reads)
        if form.takes_exif and what < 0.3:
            return _with_odd_exif(f"exif {number}{form.suffix}", content, generator)
        content, damage = mutate(content, generator, others, sides)
        if generator.random() < 0.7:
            content = with_right_checksums(content)
        return ImageCase(_odd_name(number, form, generator), content, damage)

    def _chosen(self, kind: str, generator: random.Random) -> tuple[tuple[int, int], bytes, list[bytes]]:
        """The sides and the bytes of a sound file, and files to splice it with: half of them of its format."""
        sides, content = generator.choice(self._sound[kind])
        other = generator.choice(_NAMES)
        return sides, content, [generator.choice(self._sound[name])[1] for name in (kind, other)]

    def save(self, number: int, folder: Path) -> None:
        """Write the file of a case."""
        case = self.make(number)
        (folder / case.name).write_bytes(case.content)

    def check(self, number: int) -> tuple[str, str]:
        """Read the file of a case in one of four ways."""
        case = self.make(number)
        path = self._folder / case.name
        path.write_bytes(case.content)
        assert self._sentry is not None
        try:
            way = number // len(_NAMES) % 4
            if way == 3 and self._decoder is None:  # started outside the watch
                self._decoder = DecodingProcess(_HEIGHT_PX, _WIDTH_PX)
            with self._sentry.watching() as offences:
                outcome, detail = self._read(case, path, way)
        finally:
            path.unlink(missing_ok=True)
        if offences:
            return FAULT, f"{case.damage}: {offences[0]}"
        return outcome, detail

    def _read(self, case: ImageCase, path: Path, way: int) -> tuple[str, str]:
        try:
            if way == 0 or case.expected:
                image = load_rgb(path)
                return _judged(case, image)
            pixels = self._pixels(case, path, way)
        except ImageError as error:
            return _judged_refusal(case, path, error)
        if pixels.shape != (_HEIGHT_PX, _WIDTH_PX, 3) or pixels.dtype != np.uint8:
            return FAULT, f"{case.damage}: {pixels.dtype} {pixels.shape}"
        return _judged(case, None)

    def _pixels(self, case: ImageCase, path: Path, way: int) -> NDArray[np.uint8]:
        if way == 1:
            return read_image(path, _HEIGHT_PX, _WIDTH_PX)
        if way == 2:
            return _as_pillow(case, path)
        assert self._decoder is not None
        try:
            pixels = self._decoder.decode(case.content, path)
        except OSError:  # it died: the next case needs another
            self._decoder.close()
            self._decoder = None
            raise
        here = read_image_bytes(case.content, path, _HEIGHT_PX, _WIDTH_PX)
        if not np.array_equal(pixels, here):
            raise AssertionError(f"{case.damage}: the decoding process gives other pixels")
        return pixels


@functools.cache
def _sound_files() -> dict[str, list[tuple[tuple[int, int], bytes]]]:
    """Sound files with their sides, by format."""
    pictures = [picture(index, *size) for index in range(_PICTURES) for size in _SIZES_PX[index::_PICTURES]]
    return {
        name: [(image.size, seed(image)) for seed in form.seeds for image in pictures] for name, form in FORMATS.items()
    }


def _odd_name(number: int, form: ImageFormat, generator: random.Random) -> str:
    suffix = form.suffix if generator.random() < 0.8 else generator.choice(_SUFFIXES)
    return f"{generator.choice(('case', 'case', 'case', 'ü', chr(10), chr(27) + '[31m', chr(0xDCFF)))} {number}{suffix}"


def _with_odd_exif(name: str, content: bytes, generator: random.Random) -> ImageCase:
    """A sound picture with odd metadata: it is read, and turned if the orientation is legible."""
    block = odd_exif(generator)
    with Image.open(io.BytesIO(content)) as image:
        clean = image.convert("RGB")
    turns = _TURNED if block.orientation is None else (block.orientation,)
    expected = tuple(clean if (turn := _TURNED[key]) is None else clean.transpose(turn) for key in turns)
    return ImageCase(name, with_exif(content, block.content), "exif", True, expected)


def _judged(case: ImageCase, image: Image.Image | None) -> tuple[str, str]:
    if case.must_read is False:
        return FAULT, f"read a sound file of a format that is refused: {case.name}"
    if image is not None:
        if image.mode != "RGB":
            return FAULT, f"{case.damage}: mode {image.mode}"
        if case.expected and all(not _equal(image, other) for other in case.expected):
            return FAULT, f"{case.damage}: pixels differ from those of the clean file"
    return SOUND, case.damage


def _as_pillow(case: ImageCase, path: Path) -> NDArray[np.uint8]:
    """The pixels as ``index`` reads them, which are Pillow's also where another decoder gives them."""
    pixels = read_image_bytes(case.content, path, _HEIGHT_PX, _WIDTH_PX)
    try:
        expected = resize(load_rgb(path, case.content), _HEIGHT_PX, _WIDTH_PX)
    except ImageError as error:
        raise AssertionError(f"{case.damage}: read, although Pillow refuses it: {error.reason}") from error
    if not np.array_equal(pixels, expected) and _reads_the_same(case, path):
        raise AssertionError(f"{case.damage}: the pixels differ from Pillow's")
    return pixels


def _reads_the_same(case: ImageCase, path: Path) -> bool:
    """Whether Pillow gives the same pixels each time. Some releases leave the lost rows of a damaged fax unset."""
    return len({load_rgb(path, case.content).tobytes() for _ in range(_READS)}) == 1


def _equal(image: Image.Image, other: Image.Image) -> bool:
    return image.size == other.size and image.tobytes() == other.tobytes()


def _judged_refusal(case: ImageCase, path: Path, error: ImageError) -> tuple[str, str]:
    if case.must_read:
        return FAULT, f"{case.damage}: a good picture is refused: {error.reason}"
    message = error.message
    if not message.startswith(f"{printable(path)}: ") or not error.reason:
        return FAULT, f"{case.damage}: the refusal does not name the file: {message!r}"
    if not message.isprintable():
        return FAULT, f"{case.damage}: control characters in the refusal: {message!r}"
    return REFUSED, error.reason


def is_readable(content: bytes, name: str) -> bool:
    """Whether the package reads an image."""
    with contextlib.suppress(ImageError):
        load_rgb(name, content)
        return True
    return False
