"""The spec of a model: input size, descriptor blocks, mirrored view, precision and fingerprint.

It is stored in the ONNX file (``metadata_props``, keys ``rrid.*``), in the sidecar of a TensorRT engine and in the
gallery. So no reader has to guess the preprocessing, and descriptors of two networks are never compared.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ModelFileError, UsageError
from rrid_edge.model.preprocessing import Preprocessing

FORMAT_VERSION = 2
"""Format 2 added the sum of graph and weights (:mod:`rrid_edge.model.weights`), and adopted networks."""
RRID: Final = "rrid"
ADOPTED: Final = "adopted"
ADOPTED_BLOCKS: Final = ("descriptor",)
"""The only block of an adopted network's descriptor."""
HOW_MADE: Final = "rrid-edge export CHECKPOINT, or rrid-edge adopt FILE for a network of another program"
"""The commands that write a model file, for messages."""
INPUT_NAME = "images"
OUTPUT_NAME = "descriptors"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Normalisation in the graph: mean and standard deviation of red, green and blue, for pixels of 0 .. 1."""
PRECISIONS = ("fp32", "fp16", "int8")
UINT8_NHWC: Final = "uint8-nhwc"
FLOAT32_NCHW: Final = "float32-nchw"
INPUT_FORMS: Final = (UINT8_NHWC, FLOAT32_NCHW)
"""Forms of a model's input: RGB pixels of 0 to 255, as uint8 (B, height, width, 3) or as float32 (B, 3, height, width).
The network and its descriptors are the same."""
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
DEFAULT_STRIPES = (6, 4, 2)
_PREFIX = "rrid."
_OF_ADOPTED: Final = ("preprocessing", "origin")
"""Entries that files of RRID have only if there is something in them."""
FORMAT_KEY = f"{_PREFIX}format"
HEX64: Final = r"\A[0-9a-f]{64}\Z"
"""Pattern of a sha256 in files."""
_MOST_SIDE_PX: Final = 1 << 14
_MOST_STRIPES: Final = _MOST_SIDE_PX // 16
_MOST_VALUES: Final = 1 << 20
"""Longest descriptor that is read."""
_MOST_SCALES: Final = 16
_MOST_CHARACTERS: Final = 1 << 16
"""Longest entry that is parsed. The largest real one, the names of the blocks, has some hundred characters."""


def block_names(stripes: tuple[int, ...] = DEFAULT_STRIPES) -> tuple[str, ...]:
    """Names of the descriptor's blocks in the published order.

    Args:
        stripes: number of horizontal stripes of each scale.

    Returns:
        The stripes of every scale from top to bottom, then one global block per scale. For (6, 4, 2) these are the 15
        names ``stripe-1-of-6`` ... ``stripe-2-of-2``, ``global-of-6``, ``global-of-4``, ``global-of-2``.
    """
    local = [f"stripe-{index + 1}-of-{count}" for count in stripes for index in range(count)]
    return (*local, *(f"global-of-{count}" for count in stripes))


def check_input_size(height_px: int, width_px: int, stripes: tuple[int, ...]) -> None:
    """Refuse an input size that the network cannot divide into its stripes.

    The feature map is 1/16 of the input, and each scale cuts its rows into equal stripes.

    Raises:
        UsageError: the size or the stripes do not fit. It names the nearest sizes that do.
    """
    known = 0 < len(stripes) <= _MOST_SCALES and all(2 <= count <= _MOST_STRIPES for count in stripes)
    if not known or len(set(stripes)) != len(stripes):
        raise UsageError(
            f"stripes {stripes[:_MOST_SCALES]} do not work: expected 1 to {_MOST_SCALES} different whole numbers "
            f"from 2 to {_MOST_STRIPES}, for example 6, 4, 2"
        )
    if width_px < 32 or width_px % 16:
        raise UsageError(f"width {width_px} px does not fit: expected a multiple of 16, at least 32, for example 128")
    rows = height_px // 16
    bad = [count for count in stripes if height_px % 16 or rows % count or rows < count]
    if height_px < 32 or bad:
        step = 16 * math.lcm(*stripes)
        below, above = max(step, height_px // step * step), max(step, -(-height_px // step) * step)
        nearest = f"{above}" if below == above else f"{below} or {above}"
        raise UsageError(
            f"height {height_px} px does not fit: height/16 rows cannot be cut into {bad or stripes} equal stripes; "
            f"expected a multiple of {step}, for example {nearest}"
        )


@dataclass(frozen=True)
class ModelSpec:
    """The spec of one model file.

    Attributes:
        height_px: input rows.
        width_px: input columns.
        stripes: stripes of each scale, in the descriptor's order.
        block_width: values per block of the descriptor.
        flip: True if the descriptor is the mean over the image and its mirror.
        precision: how the weights are stored: ``fp32``, ``fp16`` or ``int8``.
        fingerprint: sha256 (hex) of the network's inference weights and canonical settings. All precisions of a network
            share it. Only descriptors of one fingerprint can be compared.
        backbone: torchvision's name of the backbone.
        source_sha256: sha256 (hex) of the exported checkpoint file.
        training_data: name of the training data, or ``unknown``.
        version: rrid-edge version that wrote the model.
        input: form of the input, one of :data:`INPUT_FORMS`. It changes no descriptor, and not the fingerprint.
        family: ``rrid``, or ``adopted`` for a network of another program. An adopted one has no stripes and one block.
            Its ``backbone`` is the network's name, its ``source_sha256`` that of the original file.
        preprocessing: what an adopted network is fed; None for RRID, where the family says it.
        origin: where the original file came from, for example ``hf://owner/name@commit/file``; empty for a checkpoint
            of this machine.
    """

    height_px: int
    width_px: int
    fingerprint: str
    stripes: tuple[int, ...] = DEFAULT_STRIPES
    block_width: int = 256
    flip: bool = True
    precision: str = "fp32"
    backbone: str = "resnet50"
    source_sha256: str = ""
    training_data: str = "unknown"
    version: str = ""
    input: str = UINT8_NHWC
    family: str = RRID
    preprocessing: Preprocessing | None = None
    origin: str = ""

    @property
    def input_dtype(self) -> str:
        """Element type of the model's input, as NumPy names it."""
        return "float32" if self.input == FLOAT32_NCHW else "uint8"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image in the model's input."""
        if self.input == FLOAT32_NCHW:
            return (3, self.height_px, self.width_px)
        return (self.height_px, self.width_px, 3)

    @property
    def input_bytes(self) -> int:
        """Bytes of one image in the model's input."""
        return 3 * self.height_px * self.width_px * (4 if self.input == FLOAT32_NCHW else 1)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the descriptor's blocks, in order."""
        return ADOPTED_BLOCKS if self.family == ADOPTED else block_names(self.stripes)

    @property
    def dimension(self) -> int:
        """Values per descriptor."""
        return len(self.blocks) * self.block_width

    def with_precision(self, precision: str) -> ModelSpec:
        """The same network in another precision."""
        return replace(self, precision=precision)

    def with_input(self, form: str) -> ModelSpec:
        """The same network with another form of input, one of :data:`INPUT_FORMS`."""
        return replace(self, input=form)

    def to_metadata(self) -> dict[str, str]:
        """The spec as the ``rrid.*`` entries of an ONNX file's ``metadata_props``."""
        values = asdict(self) | {"format": FORMAT_VERSION, "stripes": list(self.stripes), "blocks": list(self.blocks)}
        if self.family == RRID:
            values = {key: value for key, value in values.items() if key not in _OF_ADOPTED or value}
        return {_PREFIX + key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str) -> ModelSpec:
        """Read a spec from the ``rrid.*`` entries.

        Args:
            metadata: all entries of the file.
            where: name of the file, for the error message.

        Raises:
            ModelFileError: entries are missing, of a newer format, or contradict each other.
        """
        own = {key[len(_PREFIX) :]: value for key, value in metadata.items() if key.startswith(_PREFIX)}
        if not own:
            raise ModelFileError(
                f"{where}: this model has no rrid-edge metadata (keys 'rrid.*'), so its preprocessing is unknown; "
                f"export it with: {HOW_MADE}"
            )
        stored = _METADATA.convert({key: _plain(key, text) for key, text in own.items()}, where=where)
        return cls(**{field.name: getattr(stored, field.name) for field in fields(cls)})


_Stripes = Annotated[int, Meta(ge=2, le=_MOST_STRIPES)]


@dataclass(frozen=True)
class _Metadata:
    """The ``rrid.*`` entries of a file, without the prefix.

    A missing fact is not guessed. Only two have a default: files without a form of input take uint8, and files without
    a family are of RRID.
    """

    format: Annotated[int, Meta(ge=1)]
    height_px: Annotated[int, Meta(ge=1, le=_MOST_SIDE_PX)]
    width_px: Annotated[int, Meta(ge=1, le=_MOST_SIDE_PX)]
    stripes: Annotated[tuple[_Stripes, ...], Meta(max_length=_MOST_SCALES)]
    block_width: Annotated[int, Meta(ge=1, le=_MOST_VALUES)]
    blocks: tuple[str, ...]
    flip: bool
    precision: Literal["fp32", "fp16", "int8"]
    fingerprint: Annotated[str, Meta(pattern=HEX64)]
    backbone: str
    source_sha256: str
    training_data: str
    version: str
    input: Literal["uint8-nhwc", "float32-nchw"] = "uint8-nhwc"
    family: Literal["rrid", "adopted"] = "rrid"
    preprocessing: Preprocessing | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if (self.family == ADOPTED) != (self.preprocessing is not None):
            raise ValueError(f"the family {self.family} does not fit the entry preprocessing")
        if self.family == ADOPTED:
            if self.stripes or self.blocks != ADOPTED_BLOCKS:
                raise ValueError("stripes or blocks of an adopted network: expected none and one")
            return
        try:
            check_input_size(self.height_px, self.width_px, self.stripes)
        except UsageError as error:
            raise ValueError(error.message) from error
        if (sum(self.stripes) + len(self.stripes)) * self.block_width > _MOST_VALUES:
            raise ValueError(f"descriptors of more than {_MOST_VALUES:,} values")
        if self.blocks != block_names(self.stripes):
            raise ValueError("the list of blocks does not follow from the stripes")


_METADATA = Artefact(
    "metadata of the model",
    _Metadata,
    f"export it again with: {HOW_MADE}",
    ModelFileError,
    newest_format=FORMAT_VERSION,
)
_PARSED = ("format", "height_px", "width_px", "stripes", "block_width", "blocks", "flip", "preprocessing")
"""Entries that are no texts. They are stored as JSON."""


def _plain(key: str, text: str) -> object:
    """The value of an entry. What is no JSON stays a text, which the schema refuses by name."""
    if key not in _PARSED or len(text) > _MOST_CHARACTERS:
        return text
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def fingerprint(settings: Mapping[str, object], tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> str:
    """sha256 (hex) of a network's canonical settings and inference weights.

    Args:
        settings: JSON-serialisable settings that change the descriptor, for example size, stripes, backbone and flip.
        tensors: name -> (dtype name, shape, little-endian bytes); the order does not matter.
    """
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        digest.update(f"\n{name} {dtype} {list(shape)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
