"""File names and kinds of all artefacts. Only this module makes file names and decides what a name means.

A model file is ``<stem>[.nchw][.cpu][.<precision>]`` with the suffix ``.onnx``, ``.engine``, ``.plan``, ``.rtx`` or
``.xml``. The precision is ``fp32``, ``fp16`` or ``int8``. ``nchw`` is for files whose input is float32 planes, ``cpu``
for int8 files that only CPUs run; their goldens and thresholds are those of the network. The stem may contain dots:
``person.v2.fp16.onnx`` has the stem ``person.v2``. A name without a precision means fp32 for an ONNX file. ``export``
writes the stem ``rrid``, ``adopt`` the name of the network.

=================  ==============  =============================================  ====================================
artefact           belongs to      name                                           for ``person.v2.fp16.engine``
=================  ==============  =============================================  ====================================
goldens            the network     ``<stem>.goldens.npz``                         ``person.v2.goldens.npz``
calibration        one input form  ``<stem>[.nchw].calibration.json`` (int8)      ``person.v2.calibration.json``
ONNX file          one precision   ``<stem>.onnx``, ``<stem>.<precision>.onnx``   ``person.v2.fp16.onnx``
ONNX file for CPUs int8            ``<stem>[.nchw].cpu.int8.onnx``                ``person.v2.cpu.int8.onnx``
engine             one precision   ``<stem>.<precision>.engine``                  ``person.v2.fp16.engine``
engine for RTX     one precision   ``<stem>.<precision>.rtx``                     ``person.v2.fp16.rtx``
OpenVINO IR        one precision   ``<stem>[.<precision>].xml`` and ``.bin``      ``person.v2.xml``
thresholds         one precision   ``<stem>[.<precision>].thresholds.json``       ``person.v2.fp16.thresholds.json``
sidecar            one file        ``<file>.json`` (engine, OpenVINO IR)          ``person.v2.fp16.engine.json``
parity report      one file        ``<file>.parity.json``                         ``person.v2.fp16.engine.parity.json``
parity chart       one report      the report's name, with ``.png``               ``person.v2.fp16.engine.parity.png``
timing cache       one machine     ``tensorrt-<version>-sm<capability>.timing``   ``tensorrt-10.3.0-sm87.timing``
=================  ==============  =============================================  ====================================

One exception: the parity report of ``rrid.onnx`` is ``parity.json``.

Thresholds are kept per precision because scores shift a little with it. A model without thresholds uses those of
another precision of its network (:func:`thresholds_candidates`).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from rrid_edge.model.spec import FLOAT32_NCHW, PRECISIONS, UINT8_NHWC

DEFAULT_STEM = "rrid"
ONNX_SUFFIX = ".onnx"
ENGINE_SUFFIXES = (".engine", ".plan")
RTX_SUFFIX = ".rtx"
IR_SUFFIX = ".xml"
_IR_WEIGHTS_SUFFIX = ".bin"
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".pickle", ".th")
_THRESHOLDS_ENDING = ".thresholds.json"
_GOLDENS_SUFFIX = ".npz"
_GOLDENS_ENDING = ".goldens" + _GOLDENS_SUFFIX
_CALIBRATION_ENDING = ".calibration.json"
_SIDECAR_ENDING = ".json"
_PARITY_ENDING = ".parity.json"
_DEFAULT_PARITY_NAME = "parity.json"
_PLAIN_PRECISION = "fp32"
_PLANES = "nchw"
_CPU = "cpu"
_ENGINE_ORDER = ("fp16", "int8", "fp32")
_ONNX_ORDER = ("fp32", "int8", "fp16")


class Kind(Enum):
    """Kind of a file, by its name. The value is the phrase for messages."""

    ONNX = "an ONNX file"
    ENGINE = "a TensorRT engine"
    RTX_ENGINE = "an engine of TensorRT for RTX"
    IR = "an OpenVINO IR"
    CHECKPOINT = "a checkpoint"
    GOLDENS = "a file of goldens"
    THRESHOLDS = "a file of thresholds"
    CALIBRATION = "a calibration listing"
    PARITY = "a parity report"
    SIDECAR = "a model's sidecar"
    OTHER = "a file of another kind"


# The first matching ending decides, so longer endings come first.
_KINDS = (
    (_THRESHOLDS_ENDING, Kind.THRESHOLDS),
    (_CALIBRATION_ENDING, Kind.CALIBRATION),
    (_PARITY_ENDING, Kind.PARITY),
    *((suffix + _SIDECAR_ENDING, Kind.SIDECAR) for suffix in (*ENGINE_SUFFIXES, RTX_SUFFIX, IR_SUFFIX)),
    (ONNX_SUFFIX, Kind.ONNX),
    *((suffix, Kind.ENGINE) for suffix in ENGINE_SUFFIXES),
    (RTX_SUFFIX, Kind.RTX_ENGINE),
    (IR_SUFFIX, Kind.IR),
    *((suffix, Kind.CHECKPOINT) for suffix in CHECKPOINT_SUFFIXES),
    (_GOLDENS_SUFFIX, Kind.GOLDENS),
)


def kind_of(path: Path) -> Kind:
    """The kind of a file, from its name only. Case is ignored, and the file need not exist."""
    name = path.name.lower()
    if name == _DEFAULT_PARITY_NAME:
        return Kind.PARITY
    return next((kind for ending, kind in _KINDS if name.endswith(ending)), Kind.OTHER)


def is_engine(path: Path) -> bool:
    """Whether the name is that of an engine of TensorRT, or of TensorRT for RTX."""
    return kind_of(path) in (Kind.ENGINE, Kind.RTX_ENGINE)


def is_rtx_engine(path: Path) -> bool:
    """Whether the name is that of an engine of TensorRT for RTX."""
    return kind_of(path) is Kind.RTX_ENGINE


def is_model(path: Path) -> bool:
    """Whether the name is that of a model file: ONNX, an engine, or an OpenVINO IR."""
    return kind_of(path) in (Kind.ONNX, Kind.IR) or is_engine(path)


def stem_of(path: Path) -> str:
    """The stem of a model's name, shared by all precisions and forms: ``person.v2`` for ``person.v2.nchw.fp16.onnx``.

    For any other file, for example a checkpoint, it is the name without its last suffix.
    """
    stem = _split(path)[0]
    return (_without_target(path).removesuffix(f".{_PLANES}") or stem) if is_model(path) else stem


def named_precision(path: Path) -> str | None:
    """The precision in a model's name: ``fp16`` for ``rrid.fp16.engine``; None if there is none."""
    return _split(path)[1]


def onnx_path(folder: Path, precision: str, form: str = UINT8_NHWC) -> Path:
    """The ONNX file that ``export`` writes: ``rrid.onnx`` for fp32, else ``rrid.<precision>.onnx``.

    Args:
        folder: its folder.
        precision: its precision.
        form: form of its input; ``rrid.nchw.onnx`` and ``rrid.nchw.<precision>.onnx`` take float32 planes.
    """
    stem = f"{DEFAULT_STEM}.{_PLANES}" if form == FLOAT32_NCHW else DEFAULT_STEM
    return folder / (_variant(stem, precision) + ONNX_SUFFIX)


def adopted_path(folder: Path, stem: str, precision: str, *, is_ir: bool = False) -> Path:
    """The file that ``adopt`` writes: ``osnet.onnx`` for fp32, else ``osnet.<precision>.onnx``.

    Args:
        folder: its folder.
        stem: name of the network.
        precision: its precision.
        is_ir: it is an OpenVINO IR: ``osnet.xml``.

    Raises:
        ValueError: the stem would be read as something else: it leads elsewhere, is hidden, or ends as other names do.
    """
    path = folder / (_variant(stem, precision) + (IR_SUFFIX if is_ir else ONNX_SUFFIX))
    if path.parent != folder or stem.startswith(".") or stem_of(path) != stem or not stem.isprintable():
        raise ValueError(stem)
    return path


def onnx_beside(model: Path, precision: str | None = None) -> Path:
    """The ONNX file of the same network and form of input in the same folder.

    Args:
        model: any model file.
        precision: precision of the ONNX file; None uses the precision in the model's name.
    """
    stem = _without_target(model)
    return model.with_name(_variant(stem, precision or _split(model)[1] or _PLAIN_PRECISION) + ONNX_SUFFIX)


def planes_path(onnx: Path) -> Path:
    """The form that takes float32 planes of a file that takes pixels: ``osnet.nchw.onnx`` for ``osnet.onnx``."""
    stem = stem_of(onnx)
    return onnx.with_name(f"{stem}.{_PLANES}{onnx.name.removeprefix(stem)}")


def cpu_onnx_path(onnx: Path) -> Path:
    """The int8 file for CPUs beside the one for every runtime: ``rrid.cpu.int8.onnx`` for ``rrid.int8.onnx``."""
    return onnx.with_name(f"{_split(onnx)[0]}.{_CPU}.int8{ONNX_SUFFIX}")


def portable_onnx_path(onnx: Path) -> Path:
    """The int8 file for every runtime beside the one for CPUs: ``rrid.int8.onnx`` for ``rrid.cpu.int8.onnx``."""
    return onnx.with_name(f"{_without_target(onnx)}.int8{ONNX_SUFFIX}")


def engine_path(onnx: Path, precision: str, *, rtx: bool = False) -> Path:
    """The engine of an ONNX file, beside it. Its name always has a precision: ``rrid.fp32.engine``.

    Args:
        onnx: the ONNX file.
        precision: precision in its metadata. Its name may lack it.
        rtx: the engine of TensorRT for RTX: ``rrid.fp32.rtx``.
    """
    return onnx.with_name(f"{_split(onnx)[0]}.{precision}{RTX_SUFFIX if rtx else ENGINE_SUFFIXES[0]}")


def ir_weights_path(network: Path) -> Path:
    """The weights of an OpenVINO IR: ``osnet.bin`` for ``osnet.xml``."""
    return network.with_suffix(_IR_WEIGHTS_SUFFIX)


def sidecar_path(engine: Path) -> Path:
    """The sidecar of an engine or an OpenVINO IR: ``rrid.fp16.engine.json``, ``osnet.xml.json``."""
    return engine.with_name(engine.name + _SIDECAR_ENDING)


def goldens_path(model: Path) -> Path:
    """The goldens of a model's network: ``rrid.goldens.npz`` for every precision and form of ``rrid``."""
    return model.with_name(stem_of(model) + _GOLDENS_ENDING)


def calibration_path(model: Path) -> Path:
    """The list of calibration crops of int8 models: ``rrid.calibration.json`` for ``rrid.int8.onnx`` and its twin."""
    return model.with_name(_without_target(model) + _CALIBRATION_ENDING)


def thresholds_path(model: Path, precision: str | None = None) -> Path:
    """The thresholds of a model or checkpoint.

    The name is ``rrid.thresholds.json`` for fp32, else ``rrid.<precision>.thresholds.json``.

    Args:
        model: a model file or a checkpoint.
        precision: precision of the thresholds; None uses the precision in the model's name.
    """
    named = _split(model)[1]
    return model.with_name(_variant(stem_of(model), precision or named or _PLAIN_PRECISION) + _THRESHOLDS_ENDING)


def thresholds_candidates(model: Path) -> list[Path]:
    """Files that may hold a model's thresholds, best first: its own, those of fp32, then all others beside it."""
    named = dict.fromkeys((thresholds_path(model), thresholds_path(model, _PLAIN_PRECISION)))
    others = sorted(path for path in model.parent.glob("*" + _THRESHOLDS_ENDING) if path not in named)
    return [*named, *others]


def parity_report_path(model: Path) -> Path:
    """The parity report of one model file: ``parity.json`` for ``rrid.onnx``, else ``<file>.parity.json``."""
    default = onnx_path(model.parent, _PLAIN_PRECISION).name
    return model.with_name(_DEFAULT_PARITY_NAME if model.name == default else model.name + _PARITY_ENDING)


def chart_path(report: Path) -> Path:
    """The chart beside a report. It replaces ``.json`` by ``.png``; other suffixes are kept: ``report.v2.png``."""
    return report.with_name(report.name.removesuffix(".json") + ".png")


def timing_cache_name(tensorrt: str, compute_capability: str) -> str:
    """Name of TensorRT's cache of kernel times for one TensorRT version and compute capability, for example ``8.7``."""
    return f"tensorrt-{tensorrt}-sm{compute_capability.replace('.', '')}.timing"


def trtexec_cache_name(generation: int) -> str:
    """Name of the cache of kernel times that trtexec keeps, for one generation of TensorRT: ``trtexec-10.timing``."""
    return f"trtexec-{generation}.timing"


def preferred_names(stem: str = DEFAULT_STEM) -> tuple[str, ...]:
    """File names of a network that commands look for if no model is named, best first.

    Engines come before ONNX files, and engines of this machine before those for RTX, which are compiled when loaded.
    OpenVINO IRs follow, which have one runtime.
    Files that take float32 planes come last: their input has four times the bytes.
    """
    names: list[str] = []
    for start in (stem, f"{stem}.{_PLANES}"):
        names += [f"{start}.{precision}{suffix}" for precision in _ENGINE_ORDER for suffix in ENGINE_SUFFIXES]
        names += [f"{start}.{precision}{RTX_SUFFIX}" for precision in _ENGINE_ORDER]
        for precision in _ONNX_ORDER:
            path = Path(_variant(start, precision) + ONNX_SUFFIX)
            names += [*([cpu_onnx_path(path).name] if precision == "int8" else []), path.name]
        names += [_variant(start, precision) + IR_SUFFIX for precision in _ONNX_ORDER]
    return tuple(names)


def _split(path: Path) -> tuple[str, str | None]:
    """The stem with the form of the input, and the precision in a model's name; None if there is none."""
    stem, dot, last = path.stem.rpartition(".")
    return (stem, last) if dot and stem and last in PRECISIONS and is_model(path) else (path.stem, None)


def _without_target(path: Path) -> str:
    """The stem with the form of the input, without ``cpu``, which only names of int8 files have."""
    stem, named = _split(path)
    return (stem.removesuffix(f".{_CPU}") or stem) if named == "int8" else stem


def _variant(stem: str, precision: str) -> str:
    return stem if precision == _PLAIN_PRECISION else f"{stem}.{precision}"
