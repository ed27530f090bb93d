"""The Triton ensemble around a network: image files -> decoded and resized pixels -> descriptors.

A Python model decodes with the image contract of rrid-edge, then the network runs as it does without the ensemble.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.files import atomic_output, write_text
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_export.triton_text import images, parameters, quoted, tensor

FILES_NAME = "files"
"""Name of the ensemble's input: the bytes of image files."""
_DECODER = Path(__file__).with_name("triton_decode.py")


@dataclass(frozen=True)
class Ensemble:
    """The two models around a network.

    Attributes:
        network: name of the network's model in the repository.
        spec: spec of the network.
        max_batch: largest batch, in images.
        version: version folder to write.
        decoders: processes that decode.
    """

    network: str
    spec: ModelSpec
    max_batch: int
    version: int
    decoders: int

    @property
    def decoder(self) -> str:
        """Name of the model that decodes."""
        return f"{self.network}-decode"

    @property
    def name(self) -> str:
        """Name of the ensemble, which clients call."""
        return f"{self.network}-files"

    def decoder_config(self) -> str:
        """The text of the decoder's ``config.pbtxt``."""
        lines = [
            f"name: {quoted(self.decoder)}",
            'backend: "python"',
            f"max_batch_size: {self.max_batch}",
            tensor("input", FILES_NAME, "TYPE_STRING", (1,)),
            images("output", self.spec),
            f"instance_group [ {{ count: {self.decoders} kind: KIND_CPU }} ]",
        ]
        return "\n".join(lines) + "\n"

    def config(self) -> str:
        """The text of the ensemble's ``config.pbtxt``."""
        steps = (
            _step(self.decoder, {FILES_NAME: FILES_NAME}, {INPUT_NAME: INPUT_NAME}),
            _step(self.network, {INPUT_NAME: INPUT_NAME}, {OUTPUT_NAME: OUTPUT_NAME}),
        )
        lines = [
            f"name: {quoted(self.name)}",
            'platform: "ensemble"',
            f"max_batch_size: {self.max_batch}",
            tensor("input", FILES_NAME, "TYPE_STRING", (1,)),
            tensor("output", OUTPUT_NAME, "TYPE_FP32", (self.spec.dimension,)),
            f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}",
            *parameters({"rrid.fingerprint": self.spec.fingerprint, "rrid.precision": self.spec.precision}),
        ]
        return "\n".join(lines) + "\n"

    def write(self, repository: Path) -> Path:
        """Write the two models into a repository: the ensemble's folder.

        Raises:
            OutputError: the repository cannot be written.
        """
        decoder, ensemble = repository / self.decoder, repository / self.name
        with atomic_output(decoder / str(self.version) / "model.py") as partial:
            shutil.copyfile(_DECODER, partial)
        write_text(decoder / "config.pbtxt", self.decoder_config())
        # Triton wants a version folder, and copies of a repository may lose empty folders.
        write_text(ensemble / str(self.version) / ".keep", "")
        write_text(ensemble / "config.pbtxt", self.config())
        return ensemble


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    """A step of the schedule. Maps go from the model's names to the ensemble's."""
    maps = [
        f"{kind} {{ key: {quoted(own)} value: {quoted(shared)} }}"
        for kind, names in (("input_map", inputs), ("output_map", outputs))
        for own, shared in names.items()
    ]
    return f"{{ model_name: {quoted(model)} model_version: -1 {' '.join(maps)} }}"
