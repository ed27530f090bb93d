"""The kinds of artefacts around networks of other programs: what is adopted, and what that gives."""

from __future__ import annotations

from typing import Final

from fuzzing import containers, foreign_files
from fuzzing.foreign_files import FACTS
from fuzzing.kinds import ArtefactKind, one_of
from fuzzing.values import damaged_json

_ADOPTED: Final = ("adopted.onnx", "adopted.goldens.npz", "crops", "query.jpg")
_NETWORK: Final = ("network.xml", "network.bin", "network.xml.json", "network.goldens.npz", "crops", "query.jpg")
_OF_A_MODEL: Final = ("info {}", "info {} --json", "index crops --rebuild --allow-removals --model {}", "parity {}")


def _commands(model: str, *more: str) -> tuple[str, ...]:
    return (*(command.format(model) for command in _OF_A_MODEL), *more)


FOREIGN_KINDS: Final[dict[str, ArtefactKind]] = {
    "adopted onnx": ArtefactKind(
        3,
        _ADOPTED,
        one_of("adopted.onnx", by=containers.damaged_onnx),
        _commands(
            "adopted.onnx",
            "match query.jpg crops --model adopted.onnx --no-index",
            "export adopted.onnx --fp16",
            "calibrate adopted.onnx --images crops --count 4",
            "adopt adopted.onnx",
        ),
    ),
    "adopted ir": ArtefactKind(
        2,
        _NETWORK,
        one_of("network.xml", by=foreign_files.damaged_xml),
        _commands("network.xml"),
    ),
    "ir sidecar": ArtefactKind(
        3, _NETWORK, one_of("network.xml.json", by=damaged_json), _commands("network.xml", f"adopt network.xml {FACTS}")
    ),
    "foreign onnx": ArtefactKind(
        4,
        ("foreign.onnx", "crops"),
        one_of("foreign.onnx", by=foreign_files.damaged_foreign),
        (
            f"adopt foreign.onnx -o out {FACTS}",
            f"adopt foreign.onnx -o out {FACTS} --flip --crops crops --json",
            "adopt foreign.onnx -o out --preset torchreid --card",
            f"adopt foreign.onnx -o out --suggest crops {FACTS}",
        ),
    ),
    "foreign weights": ArtefactKind(
        2,
        ("apart.onnx", "apart.bin"),
        one_of("apart.onnx", "apart.onnx", "apart.bin", by=foreign_files.damaged_apart, named="apart.onnx"),
        (f"adopt apart.onnx -o out {FACTS}",),
    ),
    "foreign ir": ArtefactKind(
        4,
        ("foreign.xml", "foreign.bin", "crops"),
        one_of(
            "foreign.xml", "foreign.xml", "foreign.xml", "foreign.bin", by=foreign_files.damaged_ir, named="foreign.xml"
        ),
        (f"adopt foreign.xml -o out {FACTS}", f"adopt foreign.xml -o out {FACTS} --flip --crops crops --json"),
    ),
    "boxmot": ArtefactKind(
        2,
        ("foreign.onnx", "foreign.onnx.metadata.json"),
        one_of("foreign.onnx.metadata.json", by=damaged_json),
        ("adopt foreign.onnx -o out --preset boxmot", "adopt foreign.onnx -o out --preset boxmot --json"),
    ),
}
"""Kinds that :data:`fuzzing.artefact_kinds.KINDS` takes in."""
