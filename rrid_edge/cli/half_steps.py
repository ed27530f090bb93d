"""The steps of ``rrid-edge export --fp16`` and ``--input nchw-float`` for adopted files."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.cli.best_here import say_best
from rrid_edge.cli.common import require, say, show
from rrid_edge.errors import printable


def is_adopted(path: Path) -> bool:
    """Whether an ONNX file is an adopted network.

    Raises:
        UsageError: the file does not exist.
        ModelFileError: it is damaged, or not of this package.
    """
    from rrid_edge.model.onnx_header import read_spec
    from rrid_edge.model.spec import ADOPTED

    return read_spec(path).family == ADOPTED


def takes_pixels(path: Path) -> bool:
    """Whether an ONNX file is an adopted network that takes uint8 pixels. A damaged one is not.

    Raises:
        UsageError: the file does not exist.
    """
    from rrid_edge.errors import ModelFileError
    from rrid_edge.model.onnx_header import read_spec
    from rrid_edge.model.spec import ADOPTED, UINT8_NHWC

    try:
        spec = read_spec(path)
    except ModelFileError:
        return False
    return spec.family == ADOPTED and spec.input == UINT8_NHWC


def convert(source: Path, folder: Path | None, *, quiet: bool) -> tuple[Path, dict[str, object]]:
    """Write the float16 file of an adopted float32 file, in ``folder`` or beside it.

    Returns:
        The file, and the facts to print as JSON.
    """
    require("rrid_export.half.pipeline", "adopt", "converting a network to float16")
    from rrid_export.half.pipeline import write_half

    result = write_half(source, folder)
    agreement, name = result.parity.agreement, printable(result.model)
    if not quiet:
        show(f"{name}: {result.model.stat().st_size / source.stat().st_size:.0%} of the float32 file")
        show(
            f"parity with {result.parity.reference} over {agreement.images} images: minimum cosine "
            f"{agreement.min_cosine:.7f} ({printable(result.report)})"
        )
    if result.kept:
        shown = ", ".join(result.kept[:3]) + (", ..." if len(result.kept) > 3 else "")
        say(f"{name}: {len(result.kept)} convolutions and matrix products stay in float32: {shown}")
    for line in result.parity.undecided:
        say(f"{name}: parity is not decided: {line}")
    best = say_best(source, result.model)
    facts: dict[str, object] = {
        "best_here": str(best),
        "model_fp16": str(result.model),
        "parity_fp16": result.parity.to_dict(),
        "goldens": str(result.goldens),
        "float32_layers": list(result.kept),
    }
    return result.model, facts


def convert_to_planes(source: Path, folder: Path | None, *, quiet: bool) -> Path:
    """Write the file of an adopted network that takes float32 planes, in ``folder`` or beside it; returns the file."""
    require("rrid_export.planes", "adopt", "changing the input of a network")
    from rrid_export.planes import write_planes

    written = write_planes(source, folder)
    if not quiet:
        show(f"{printable(written)}: takes float32 planes, and gives the descriptors of {printable(source)}")
    return written
