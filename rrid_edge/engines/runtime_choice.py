"""The runtime that was chosen for a model file, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rrid_edge.engines.speeds import RuntimeSpeeds


@dataclass(frozen=True)
class RuntimeChoice:
    """The runtime for a model file, and why it was chosen.

    Attributes:
        runtime: one of :data:`rrid_edge.engines.opening.RUNTIMES`, never ``auto``.
        asked: True if the caller named the runtime, False if ``auto`` chose it.
        passed_over: runtimes that ``auto`` prefers, each with the reason why it was skipped.
        speeds: measured speeds that decided, or None.
        is_unmeasured: speeds would decide and could be recorded, but are not measured yet; see
            :func:`rrid_edge.engines.measuring.measure_runtimes`.
    """

    runtime: str
    asked: bool
    passed_over: tuple[str, ...] = ()
    speeds: RuntimeSpeeds | None = None
    is_unmeasured: bool = False

    def in_brief(self) -> str:
        """The choice in one clause: the runtime, and how many better ones were passed over."""
        if self.asked:
            return "runtime as asked"
        count = len(self.passed_over)
        others = f" ({count} other{'s' if count > 1 else ''} passed over; doctor says why)" if count else ""
        return f"runtime {self.runtime}{others}"

    def describe(self) -> str:
        """The choice with all of its reasons."""
        if self.asked:
            return "runtime as asked"
        reason = self.reason
        return f"runtime {self.runtime}{reason and f' ({reason})'}"

    def decided_by(self, speeds: RuntimeSpeeds, path: Path, threads: int = 0) -> RuntimeChoice:
        """The choice that new speeds give, once they are recorded.

        It is the same choice where ``auto`` does not ask for speeds, or where they cannot be recorded.

        Args:
            speeds: measured for the file with this number of threads.
            path: the model file.
            threads: CPU threads; 0 is the runtimes' choice.
        """
        from rrid_edge.engines.speeds import SpeedRecord

        if self.asked or not (self.is_unmeasured or self.speeds):
            return self
        record = SpeedRecord.of(path, threads)
        if record is None or not record.keep(speeds):
            return self
        return replace(self, runtime=speeds.fastest, speeds=speeds, is_unmeasured=False)

    @property
    def reason(self) -> str:
        """Why ``auto`` chose it, in words; may be empty."""
        parts = [f"passed over: {'; '.join(self.passed_over)}"] if self.passed_over else []
        if self.speeds is not None:
            parts.append(self.speeds.describe())
        if self.is_unmeasured:
            parts.append("ONNX Runtime and OpenVINO are not measured yet")
        return "; ".join(parts)
