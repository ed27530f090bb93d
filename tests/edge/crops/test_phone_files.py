"""One drawn picture in the forms that phones, cameras and programs write: taken, refused by name, or counted."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rrid_edge.crops.folder import find_images
from rrid_edge.crops.images import load_rgb
from rrid_edge.errors import ImageError

READ = (
    *("a_plain.jpg", "b_progressive.jpg", "c_422.jpg", "d_mpo_two_pictures.jpg", "e_jfif.jfif", "f_jpe.jpe"),
    *("h_webp_lossless.webp", "j_gif.gif", "l_pgm.pgm", "o_rgba_opaque.png", "p_la.png", "s_1bit.png"),
    *("t_named.jpg", "v_tif_lzw.tif", "w_png_named.jpg", "y_bmp.bmp", "z_dib.dib", "aa_trailing_junk.jpg"),
    *("ab_motion_photo.jpg", "UPPER.JPG", "dot.JPEG"),
)
REFUSED = {
    "q_gray16.png": "more than 8 bits",
    "r_cmyk.jpg": "CMYK",
    "u_two_page.tif": "2 pages",
    "ac_avif_named.jpg": "AVIF",
    "ad_cut_last_rows.jpg": "truncated",
    "ae_bom_before.jpg": "not an image of a known format",
}
COUNTED = {".avif": 1, ".jp2": 1, ".tga": 1, ".heic": 1, "": 1, ".jpg ": 1, ".part": 1, ".jpg!large": 1}


def picture():
    image = Image.new("RGB", (64, 128), (90, 110, 140))
    drawing = ImageDraw.Draw(image)
    drawing.ellipse((22, 8, 42, 30), fill=(210, 170, 140))
    drawing.rectangle((16, 30, 48, 80), fill=(150, 60, 40))
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phone")
    image = picture()

    def save(name, form=None, source=image, **options):
        source.save(out / name, form, **options)

    save("a_plain.jpg", quality=95)
    save("b_progressive.jpg", quality=95, progressive=True)
    save("c_422.jpg", quality=95, subsampling=1)
    save("d_mpo_two_pictures.jpg", "MPO", save_all=True, append_images=[image.resize((32, 64))], quality=95)
    save("e_jfif.jfif", "JPEG", quality=95)
    save("f_jpe.jpe", "JPEG", quality=95)
    save("h_webp_lossless.webp", lossless=True)
    save("j_gif.gif")
    save("l_pgm.pgm", source=image.convert("L"))
    save("o_rgba_opaque.png", source=image.convert("RGBA"))
    save("p_la.png", source=image.convert("LA"))
    save("q_gray16.png", source=Image.new("I;16", (64, 128), 20000))
    save("r_cmyk.jpg", source=image.convert("CMYK"))
    save("s_1bit.png", source=image.convert("1"))
    save("t_named.jpg", source=image.convert("YCbCr"), quality=95)
    save("u_two_page.tif", save_all=True, append_images=[image])
    save("v_tif_lzw.tif", compression="tiff_lzw")
    save("w_png_named.jpg", "PNG")
    save("y_bmp.bmp", source=image.convert("P", palette=Image.Palette.ADAPTIVE))
    save("z_dib.dib")
    plain = (out / "a_plain.jpg").read_bytes()
    for name, content in {
        "aa_trailing_junk.jpg": plain + bytes(4096),
        "ab_motion_photo.jpg": plain + b"\0\0\0\x18ftypmp42" + bytes(50000),
        "ac_avif_named.jpg": b"\0\0\0\x20ftypavif" + bytes(20),
        "ad_cut_last_rows.jpg": plain[: int(len(plain) * 0.97)],
        "ae_bom_before.jpg": b"\xef\xbb\xbf" + plain,
        **dict.fromkeys(
            ("UPPER.JPG", "dot.JPEG", "copy.jpg ", "photo.jpg.part", "photo.jpg!large", "x_no_suffix"), plain
        ),
        **dict.fromkeys(("g.avif", "i.jp2", "k.tga", "m.heic"), b"another format"),
    }.items():
        (out / name).write_bytes(content)
    return out


def test_every_file_is_taken_refused_by_name_or_counted(folder):
    found = find_images(folder)
    assert {path.name for path in found.paths} == {*READ, *REFUSED}
    assert found.endings == COUNTED
    assert not found.skipped
    assert not found.outside
    assert len(found.paths) + sum(found.endings.values()) == len(list(folder.iterdir()))


@pytest.mark.parametrize("name", READ)
def test_what_is_read_shows_the_picture(folder, name):
    shown = np.asarray(load_rgb(folder / name)).astype(int)
    if name in ("l_pgm.pgm", "p_la.png", "s_1bit.png"):
        expected = picture().convert("1" if name == "s_1bit.png" else "L").convert("RGB")
    else:
        expected = picture()
    assert shown.shape == (128, 64, 3)
    assert np.abs(shown - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_refused_is_named(folder, name):
    with pytest.raises(ImageError) as refusal:
        load_rgb(folder / name)
    assert name in refusal.value.message
    assert REFUSED[name] in refusal.value.message
