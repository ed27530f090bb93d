"""The text of a model card: YAML for the hub, then Markdown for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rrid_edge.model.names import Kind, goldens_path, ir_weights_path, kind_of, sidecar_path
from rrid_edge.model.spec import ADOPTED, FLOAT32_NCHW, IMAGENET_MEAN, IMAGENET_STD, INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.ranking.threshold_file import Thresholds
from rrid_export.card.facts import Card, CardFile
from rrid_export.card.licences import licence_lines
from rrid_export.card.markdown import code, quoted
from rrid_export.hub_address import SCHEME

_UNKNOWN_DATA: Final = ("", "unknown")
_LIMITS: Final = """\
- A descriptor is personal data, and so is a crop. Have a lawful basis to process them, tell people about the cameras,
  and delete what is no longer needed.
- A high score is a lead, not a proof. A person must check it before anybody acts on it.
- Networks of this kind follow clothes, build and things that are carried. They fail when these change, and among people
  who are dressed alike.
- Accuracy differs between groups of people, cameras, light and seasons, and is lower on cameras that the network was
  not trained on. Measure it on labelled crops of your own cameras and of the people in them.
- Scores are no probabilities. Use a threshold that was measured on your own data."""


def card_text(card: Card) -> str:
    """The card without its last line, which :mod:`rrid_export.card.writing` adds."""
    spec = card.file.spec
    name = code(spec.backbone if spec.family == ADOPTED else "RRID")
    parts = [
        "\n".join(_head(card)),
        f"# Person re-identification: {name}",
        _summary(card),
        "## Origin\n\n" + "\n".join(_origin(card)),
        "## Input and output\n\n" + "\n".join(_shapes(spec)),
        "## Preprocessing, inside the file\n\n" + "\n".join(_preprocessing(spec)),
        "## Parity\n\n" + "\n".join(_parity(card)),
        "## Accuracy\n\n" + "\n".join(_accuracy(card)),
        "## Use\n\n" + _use(card),
        "## Intended use and limits\n\n" + "\n".join(_limits(card)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(card: Card) -> Iterator[str]:
    """The YAML that the hub reads."""
    yield "---"
    yield from licence_lines(card.licence)
    yield "library_name: rrid-edge"
    yield "pipeline_tag: image-feature-extraction"
    yield "tags:"
    form = "openvino" if kind_of(Path(card.file.name)) is Kind.IR else "onnx"
    yield from (f"- {tag}" for tag in ("person-re-identification", "re-identification", "rrid-edge", form))
    origin = card.file.spec.origin
    if origin.startswith(SCHEME):
        yield f"base_model: {quoted(origin.removeprefix(SCHEME).partition('@')[0])}"
    yield "---"


def _summary(card: Card) -> str:
    spec, name = card.file.spec, code(card.file.name)
    told = (
        f"{name} turns a crop of one person into a descriptor of {spec.dimension:,} values. Crops of the same person\n"
        "have descriptors with a high cosine."
    )
    if spec.family == ADOPTED:
        return (
            f"{told} The network comes from another program. `rrid-edge adopt` built its\n"
            "preprocessing into the file, and compared the file with the original."
        )
    stripes = ", ".join(map(str, spec.stripes))
    return (
        f"{told} The network is RRID (Relation Network for Person Re-identification, Park and\n"
        f"Ham, AAAI 2020) with the backbone {code(spec.backbone)} and stripes {stripes}."
    )


def _origin(card: Card) -> Iterator[str]:
    spec = card.file.spec
    yield f"- Original file: {code(spec.origin) if spec.origin else 'a checkpoint of RRID'}"
    yield f"- sha256 of the original file: {code(spec.source_sha256)}"
    data = "not known" if spec.training_data in _UNKNOWN_DATA else code(spec.training_data)
    yield f"- Training data: {data}"
    unknown = "unknown: nobody stated it here. Ask the owner of the weights before you use or share them"
    yield f"- Licence of the weights: {unknown if card.licence is None else code(card.licence)}"
    yield f"- Fingerprint: {code(spec.fingerprint)}. Only descriptors of one fingerprint can be compared."
    if kind_of(path := Path(card.file.name)) is Kind.IR:
        yield f"- Belonging files: {code(ir_weights_path(path).name)}, {code(sidecar_path(path).name)}"
    yield f"- Written by: rrid-edge {spec.version}"


def _shapes(spec: ModelSpec) -> Iterator[str]:
    planes = spec.input == FLOAT32_NCHW
    shape = ", ".join(map(str, spec.input_shape))
    kind = "float32 values of 0 to 255" if planes else "uint8"
    yield f"- Input `{INPUT_NAME}`: {kind}, (batch, {shape}), RGB, any batch size."
    yield f"- A crop is turned upright by its EXIF orientation, and resized to {spec.height_px} x {spec.width_px} px"
    yield "  (rows x columns) with Pillow's bilinear filter, which smooths when it shrinks. The aspect ratio changes."
    yield f"- Output `{OUTPUT_NAME}`: float32, (batch, {spec.dimension}), unit length. Compare two by their cosine."
    if len(spec.blocks) > 1:
        yield f"- {len(spec.blocks)} blocks of {spec.block_width} values: {', '.join(spec.blocks)}."


def _preprocessing(spec: ModelSpec) -> Iterator[str]:
    """All facts, in the order of work."""
    facts = spec.preprocessing
    color, scale, layout = (facts.color, facts.scale, facts.layout) if facts else ("rgb", 255.0, "nchw")
    mean, std = (facts.mean, facts.std) if facts else (IMAGENET_MEAN, IMAGENET_STD)
    yield f"- Order of the channels: {color.upper()}"
    yield f"- Values: (pixel / {scale:g} - mean) / std, in float32"
    yield f"- Mean: {', '.join(f'{value:.9g}' for value in mean)}"
    yield f"- Standard deviation: {', '.join(f'{value:.9g}' for value in std)}"
    yield f"- Layout: {layout.upper()}"
    if facts:
        yield f"- The network's own input and output: {code(facts.input)}, {code(facts.output)}"
    yield f"- Views: {'the image and its mirror, averaged' if spec.flip else 'the image only'}"
    has_unit = facts is not None and facts.normalise == "none"
    yield f"- Unit length: {'by the network itself' if has_unit else 'L2 norm, in float32, after the network'}"


def _parity(card: Card) -> Iterator[str]:
    for file in (card.file, *card.others):
        yield f"- {code(file.name)} ({file.spec.precision}): {_parity_of(file)}"
    yield ""
    if card.drawn:
        yield f"{code(card.file.name)} was compared on drawn patterns. They prove only the arithmetic."
    else:
        yield "Parity says that a file computes what its reference computes, not how good the network is."


def _parity_of(file: CardFile) -> str:
    parity = file.parity
    if parity is None:
        return "not measured. Run `rrid-edge parity`."
    agreement = parity.agreement
    told = (
        f"{code(parity.verdict)}. Minimum cosine {agreement.min_cosine:.7f}, mean {agreement.mean_cosine:.7f}, over "
        f"{agreement.images:,} images. Engine {code(parity.engine)}, reference {code(parity.reference)}."
    )
    if parity.map_engine is None or parity.map_reference is None or parity.sample is None:
        return told
    told += f" mAP {parity.map_engine:.4f} (reference {parity.map_reference:.4f})"
    if parity.rank1_engine is not None and parity.rank1_reference is not None:
        told += f", rank-1 {parity.rank1_engine:.4f} (reference {parity.rank1_reference:.4f})"
    return f"{told} on {code(parity.sample.description)}."


def _accuracy(card: Card) -> Iterator[str]:
    if card.thresholds is None:
        yield "No accuracy was measured for this card. Measure it on labelled crops of people that the network was not"
        yield "trained on:\n"
        yield f"```\nrrid-edge evaluate {_shell_name(card)} --dataset DATASET\n```"
        return
    yield "Thresholds that `rrid-edge evaluate` measured:\n"
    for record in card.thresholds.datasets:
        yield from _thresholds(record)


def _thresholds(record: Thresholds) -> Iterator[str]:
    yield f"- {code(record.dataset)}, {record.people:,} people:"
    pairs = record.pairs
    for point in pairs.points:
        if point.score is not None:
            yield f"  - FPR {point.fpr:g} per pair: TPR {point.tpr:.4f} at cosines of {point.score:.4f} and higher"
    for rate in record.searches.known:
        last = rate.points[-1]
        found = "" if last.tpir is None else f" TPIR {last.tpir:.4f} at"
        yield f"  - FPIR {rate.fpir:g} per search of {last.size:,} crops:{found} cosines of {last.score:.4f} and higher"
    yield f"  - from {pairs.genuine_pairs:,} genuine and {pairs.impostor_pairs:,} impostor pairs"


def _use(card: Card) -> str:
    model = _shell_name(card)
    return (
        f"```\npip install 'rrid-edge[cpu]'\nrrid-edge info {model}\nrrid-edge index crops/ --model {model}\n"
        f"rrid-edge match query.jpg crops/ --model {model}\n```"
    )


def _limits(card: Card) -> Iterator[str]:
    yield "The network is made to find one person again among crops of cameras that you may operate and search.\n"
    yield _LIMITS
    if not card.drawn:
        goldens = code(goldens_path(Path(card.file.name)).name)
        yield f"- {goldens} beside the model holds crops of people. Do not publish it with the model."


def _shell_name(card: Card) -> str:
    name = card.file.name
    return shlex.quote(f"./{name}" if name.startswith("-") else name)
