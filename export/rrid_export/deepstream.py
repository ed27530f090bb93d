"""Write configurations with which NVIDIA DeepStream loads a model: the tracker's ReID block, and one for ``nvinfer``.

The model must take float32 planes (:data:`rrid_edge.model.spec.FLOAT32_NCHW`). It scales and normalises the pixels
itself, so DeepStream must not: its scale is 1 and its offsets are 0. Keys and types: NVIDIA's documentation of
``Gst-nvtracker`` and ``Gst-nvinfer``; the tests hold a table of them. Nothing here has run on DeepStream.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import write_text
from rrid_edge.model.spec import FLOAT32_NCHW, OUTPUT_NAME, ModelSpec
from rrid_edge.model.weights import read_checked_spec
from rrid_export.tensorrt.nodes import refuse_file_for_cpus
from rrid_export.tensorrt.settings import BuildSettings

REID_HISTORY: Final = 30
"""Descriptors that the tracker keeps per target. 150 targets of 3840 float32 values then take 69 MB per stream; with
DeepStream's default of 100 they would take 230 MB."""
_TRACKER_ENDING: Final = ".tracker_reid.yml"
_NVINFER_ENDING: Final = ".nvinfer.txt"
_TRACKER_MODES: Final = {"fp32": 0, "fp16": 1, "int8": 2}
_NVINFER_MODES: Final = {"fp32": 0, "int8": 1, "fp16": 2}  # the two plugins number them differently
_NOTE: Final = (
    "rrid-edge {version}, network {fingerprint}. Scaling, normalisation, mirror and L2 norm are in the model.",
    "Build the engine on this machine first: rrid-edge export {onnx} --opt-batch {best} --max-batch {largest}",
    "Without that file DeepStream builds its own, which nobody proves: in float16 the L2 norm can overflow.",
)


def write_deepstream(model: Path, engine: Path, out: Path, settings: BuildSettings | None = None) -> tuple[Path, Path]:
    """Write the configurations of one model. Paths in them are absolute.

    Args:
        model: an ONNX file of this package that takes float32 planes.
        engine: its TensorRT engine, which DeepStream loads if it exists.
        out: the folder to write to.
        settings: settings of the engine's build; the defaults if None.

    Returns:
        The tracker's block (YAML, ``<model>.tracker_reid.yml``) and the configuration of nvinfer (an INI file,
        ``<model>.nvinfer.txt``).

    Raises:
        UsageError: the model takes uint8, DeepStream cannot load an engine with these settings, or a path holds
            characters that configurations cannot hold.
        ModelFileError: the file is damaged.
        OutputError: the folder cannot be written.
    """
    settings = settings or BuildSettings()
    spec = read_checked_spec(model)
    if spec.input != FLOAT32_NCHW:
        raise UsageError(
            f"{printable(model)}: this model takes {spec.input}, and DeepStream feeds {FLOAT32_NCHW}: export the "
            "checkpoint with that form of input"
        )
    check_engine_settings(settings)
    refuse_file_for_cpus(model)
    files = {"onnx": _listed(model), "engine": _listed(engine)}
    facts = {"version": spec.version, "fingerprint": spec.fingerprint, "onnx": shlex.quote(files["onnx"])}
    facts |= {"best": str(settings.opt_batch), "largest": str(settings.max_batch)}
    comment = "".join(f"# {line.format(**facts)}\n" for line in _NOTE)
    tracker, nvinfer = (out / (model.name + ending) for ending in (_TRACKER_ENDING, _NVINFER_ENDING))
    block = tracker_block(spec, files, settings)
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in block.items()]
    write_text(tracker, f"{comment}ReID:\n{''.join(lines)}")
    entries = [f"{key}={value}\n" for key, value in nvinfer_properties(spec, files, settings).items()]
    write_text(nvinfer, f"{comment}[property]\n{''.join(entries)}")
    return tracker, nvinfer


def tracker_block(spec: ModelSpec, files: Mapping[str, str], settings: BuildSettings) -> dict[str, object]:
    """The entries of the tracker's ``ReID`` block.

    Args:
        spec: spec of the model.
        files: absolute paths: ``onnx`` and ``engine``.
        settings: settings of the engine's build.
    """
    return {
        "reidType": 2,  # features re-associate tracks; NvDCF itself matches without them
        "batchSize": settings.max_batch,
        "workspaceSize": settings.workspace_mib,
        "reidFeatureSize": spec.dimension,
        "reidHistorySize": REID_HISTORY,
        "inferDims": list(spec.input_shape),
        "networkMode": _TRACKER_MODES[spec.precision],
        "inputOrder": 0,  # NCHW
        "colorFormat": 0,  # RGB
        "offsets": [0.0, 0.0, 0.0],
        "netScaleFactor": 1.0,
        "keepAspc": 0,  # the image contract stretches a crop to the input size
        "addFeatureNormalization": 0,  # the graph ends with the L2 norm
        "outputReidTensor": 1,
        "onnxFile": files["onnx"],
        "modelEngineFile": files["engine"],
    }


def nvinfer_properties(spec: ModelSpec, files: Mapping[str, str], settings: BuildSettings) -> dict[str, object]:
    """The entries of nvinfer's group ``property``, for a secondary engine that works on boxes of persons.

    Args:
        spec: spec of the model.
        files: absolute paths: ``onnx`` and ``engine``.
        settings: settings of the engine's build.
    """
    return {
        "gpu-id": 0,
        "gie-unique-id": 2,
        "process-mode": 2,  # on objects
        "operate-on-gie-id": 1,
        "operate-on-class-ids": 0,
        "network-type": 100,  # other: no parser of boxes or classes
        "output-tensor-meta": 1,
        "input-tensor-from-meta": 0,
        "onnx-file": files["onnx"],
        "model-engine-file": files["engine"],
        "batch-size": settings.max_batch,
        "workspace-size": settings.workspace_mib,
        "network-mode": _NVINFER_MODES[spec.precision],
        "infer-dims": ";".join(map(str, spec.input_shape)),
        "network-input-order": 0,  # NCHW
        "model-color-format": 0,  # RGB
        "net-scale-factor": 1.0,
        "offsets": "0.0;0.0;0.0",
        "maintain-aspect-ratio": 0,
        "scaling-filter": 1,  # bilinear
        "output-blob-names": OUTPUT_NAME,
    }


def check_engine_settings(settings: BuildSettings) -> None:
    """Refuse an engine that DeepStream cannot load, or cannot feed.

    Raises:
        UsageError: names the setting.
    """
    if settings.rtx is not None:
        raise UsageError("DeepStream loads engines of TensorRT, not of TensorRT for RTX: leave one of the two out")
    if settings.min_batch > 1:
        raise UsageError(
            f"a smallest batch of {settings.min_batch} does not work with DeepStream, which also sends single crops: "
            "build the engine with a smallest batch of 1",
            parameter="min_batch",
        )
    for name in ("strip_weights", "version_compatible"):
        if getattr(settings, name):
            raise UsageError(f"DeepStream cannot load an engine built with {name}: leave it out", parameter=name)


def _listed(path: Path) -> str:
    """The absolute path of a file, as both kinds of configuration can hold it."""
    text = str(path.resolve())
    if not text.isprintable() or "\\" in text or text != text.strip():
        raise UsageError(
            f"{printable(text)}: DeepStream's configurations cannot hold this path: rename the file or its folder"
        )
    return text
