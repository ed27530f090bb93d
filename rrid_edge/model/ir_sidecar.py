"""The sidecar ``<network>.xml.json`` of an adopted OpenVINO IR: its spec, and the sums of its two files.

An IR is a network in ``<name>.xml`` and its weights in ``<name>.bin``. Neither has room for the spec.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.file_kinds import why_no_file
from rrid_edge.files import sha256_of_file, write_text
from rrid_edge.model.names import ir_weights_path, sidecar_path
from rrid_edge.model.spec import HEX64, INPUT_NAME, OUTPUT_NAME, ModelSpec

IR_FORMAT = 1
_AGAIN = "adopt it again with: rrid-edge adopt FILE.xml"


@dataclass(frozen=True)
class FileSum:
    """One file of an IR.

    Attributes:
        sha256: sha256 (hex) of its bytes.
        bytes: its size.
    """

    sha256: Annotated[str, Meta(pattern=HEX64)]
    bytes: Annotated[int, Meta(ge=0)]

    @classmethod
    def of(cls, path: Path) -> FileSum:
        """The sum of a file."""
        return cls(sha256_of_file(path), path.stat().st_size)


@dataclass(frozen=True)
class _Stored:
    """The content of a sidecar file."""

    format: Annotated[int, Meta(ge=1)]
    metadata: dict[str, str]
    network: FileSum
    weights: FileSum


_STORED = Artefact("sidecar", _Stored, _AGAIN, ModelFileError, newest_format=IR_FORMAT)


@dataclass(frozen=True)
class IrSidecar:
    """The content of a sidecar.

    Attributes:
        spec: spec of the model.
        network: the ``.xml`` file.
        weights: the ``.bin`` file.
    """

    spec: ModelSpec
    network: FileSum
    weights: FileSum

    @classmethod
    def of(cls, path: Path, spec: ModelSpec) -> IrSidecar:
        """The sidecar of an IR as it lies there now."""
        return cls(spec, FileSum.of(path), FileSum.of(ir_weights_path(path)))

    def write(self, path: Path) -> None:
        """Write ``<network>.xml.json`` atomically.

        Raises:
            OutputError: the file cannot be written.
        """
        values = {
            "format": IR_FORMAT,
            "fingerprint": self.spec.fingerprint,
            "input": {"name": INPUT_NAME, "dtype": self.spec.input_dtype, "shape": ["batch", *self.spec.input_shape]},
            "output": {"name": OUTPUT_NAME, "dtype": "float32", "shape": ["batch", self.spec.dimension]},
            "network": asdict(self.network),
            "weights": asdict(self.weights),
            "metadata": self.spec.to_metadata(),
        }
        write_text(sidecar_path(path), json.dumps(values, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> IrSidecar:
        """Read the sidecar of an IR. The files' sums are not compared.

        Raises:
            UsageError: the IR does not exist.
            ModelFileError: the sidecar is missing or damaged.
        """
        if not path.is_file():
            raise UsageError(
                f"{printable(path)}: {why_no_file(path, 'model file')}; give another one, or {_AGAIN}",
                parameter="model",
            )
        where = sidecar_path(path)
        try:
            stored = _STORED.read(where)
        except FileNotFoundError as error:
            raise ModelFileError(
                f"{printable(path)}: this OpenVINO IR has no sidecar {printable(where.name)}, so its preprocessing is "
                "unknown; copy it from where the IR was adopted, or adopt the network with: rrid-edge adopt FILE.xml"
            ) from error
        return cls(ModelSpec.from_metadata(stored.metadata, where=printable(where)), stored.network, stored.weights)

    def check_files(self, path: Path) -> None:
        """Compare both files of an IR with their sums. It reads them whole.

        Raises:
            ModelFileError: a file is missing, or its bytes are others.
        """
        for file, expected in ((path, self.network), (ir_weights_path(path), self.weights)):
            try:
                found = FileSum.of(file)
            except OSError as error:
                raise ModelFileError(
                    f"{printable(file)}: cannot be read ({error.strerror or error}); the IR needs it: copy it too, or "
                    f"{_AGAIN}"
                ) from error
            if found != expected:
                raise ModelFileError(
                    f"{printable(file)}: this file of the IR is damaged or was replaced (sha256 {found.sha256[:12]}, "
                    f"expected {expected.sha256[:12]}); {_AGAIN}"
                )
