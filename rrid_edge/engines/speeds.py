"""Which of two CPU runtimes computes a float32 model faster: measured once, and recorded beside the compiled models.

ONNX Runtime and OpenVINO are within a quarter of each other in float32, and which one is faster depends on the
processor (BENCHMARKS.md). A record holds for one network, processor, number of threads and pair of versions. It can be
deleted at any time. A damaged or foreign one is ignored, and the next measurement replaces it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rrid_edge.artefacts import Artefact
from rrid_edge.engines.compiled_cache import CompiledCache, cache_folder
from rrid_edge.errors import ArtefactError, OutputError
from rrid_edge.files import PRIVATE_MODE, check_writable, write_json
from rrid_edge.machine.facts import installed_version
from rrid_edge.machine.processor import processor_identity, threads_for, usable_cores
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import HEX64
from rrid_edge.stopping import collecting_results

_NEEDED_GAIN = 0.95
"""ONNX Runtime is taken from this share of OpenVINO's time on: below it the two are within the spread."""
_FORMAT = 1
Milliseconds = Annotated[float, Meta(gt=0, le=1e7)]


@dataclass(frozen=True)
class RuntimeSpeeds:
    """Median latency of one image on each runtime.

    Attributes:
        onnxruntime_ms: on ONNX Runtime, in milliseconds.
        openvino_ms: on OpenVINO in float32, in milliseconds.
    """

    onnxruntime_ms: Milliseconds
    openvino_ms: Milliseconds

    @property
    def fastest(self) -> str:
        """The runtime to take: ``onnxruntime`` where it is at least 5 % faster, else ``openvino``."""
        return "onnxruntime" if self.onnxruntime_ms <= _NEEDED_GAIN * self.openvino_ms else "openvino"

    def describe(self) -> str:
        """Both speeds in words."""
        return f"measured: ONNX Runtime {self.onnxruntime_ms:.3g} ms, OpenVINO {self.openvino_ms:.3g} ms per image"


@dataclass(frozen=True)
class _Stored:
    format: Annotated[int, Meta(ge=1)]
    key: Annotated[str, Meta(pattern=HEX64)]
    speeds: RuntimeSpeeds


_RECORD = Artefact("speeds of runtimes", _Stored, "they are measured again", newest_format=_FORMAT)


@dataclass(frozen=True)
class SpeedRecord:
    """Where the speeds of one model on this machine are recorded.

    Attributes:
        path: the file.
        key: sha256 (hex) of what the speeds depend on.
    """

    path: Path
    key: str

    @classmethod
    def of(cls, model: Path, threads: int = 0) -> SpeedRecord | None:
        """The record of a model; None where none is kept: the cache is off, or the file is not one to cache.

        Args:
            model: an ONNX file.
            threads: CPU threads; 0 is the runtimes' choice.

        Raises:
            UsageError: the file does not exist.
            ModelFileError: it does not follow the model contract.
        """
        folder = cache_folder()
        if folder is None or CompiledCache(folder).key(model) is None:
            return None
        spec = read_spec(model)
        network = [spec.fingerprint, spec.precision, spec.input, spec.version]
        versions = [installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu", "openvino")]
        cores = [threads_for(threads), usable_cores()]
        told = json.dumps([network, processor_identity(), versions, cores])
        key = hashlib.sha256(told.encode()).hexdigest()
        return cls(folder / f"speeds-{key[:32]}.json", key)

    def read(self) -> RuntimeSpeeds | None:
        """The recorded speeds; None if there are none, or they are damaged or another user's."""
        try:
            facts = self.path.stat()
            if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
                return None
            stored = _RECORD.read(self.path)
        except (OSError, ArtefactError):
            return None
        return stored.speeds if stored.key == self.key else None

    def keep(self, speeds: RuntimeSpeeds) -> bool:
        """Record speeds; returns False if the folder cannot be written."""
        with contextlib.suppress(OutputError, OSError), collecting_results(None):  # a cache is no result
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_json(self.path, asdict(_Stored(_FORMAT, self.key, speeds)), PRIVATE_MODE)
            return True
        return False

    @property
    def can_be_kept(self) -> bool:
        """Whether the folder looks writable."""
        try:
            check_writable(self.path.parent)
        except OutputError:
            return False
        return True
