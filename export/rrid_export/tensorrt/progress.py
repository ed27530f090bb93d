"""Progress of a build as one increasing number, from the nested phases that TensorRT 10 and 11 report."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.progress import Progress

if TYPE_CHECKING:
    import tensorrt as trt

PROGRESS_TOTAL = 1000


class BuildProgress:
    """Sums nested phases up to thousandths of the build; TensorRT may call it from several threads.

    A step is worth 1 / (number of steps) of its phase. An inner phase fills the current step of its outer phase.

    Args:
        progress: started with :data:`PROGRESS_TOTAL`, then advanced.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        progress.start(PROGRESS_TOTAL)
        self._lock = threading.Lock()
        self._phases: dict[str, list[int]] = {}
        self._parents: dict[str, str | None] = {}
        self._reported = 0
        self.interrupted = False

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Note that a phase begins with ``steps`` steps, inside the phase ``parent``."""
        with self._lock:
            self._phases[phase] = [0, max(1, steps)]
            self._parents[phase] = parent or None

    def step(self, phase: str, step: int) -> None:
        """Note that step number ``step`` (from 0) of a phase is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase][0] = min(step + 1, self._phases[phase][1])
            # The first phase is the whole build and contains the others.
            root = next(iter(self._phases), phase)
            self._report(self._share(root))

    def finish(self, phase: str) -> None:
        """Note that a phase ends, completed or not."""
        with self._lock:
            self._phases.pop(phase, None)
            self._parents.pop(phase, None)

    def complete(self) -> None:
        """Note that the build is done."""
        with self._lock:
            self._report(1.0)

    def _share(self, phase: str) -> float:
        if phase not in self._phases:
            return 0.0
        done, steps = self._phases[phase]
        inner = [self._share(child) for child, parent in self._parents.items() if parent == phase]
        return min(1.0, (done + max(inner, default=0.0)) / steps)

    def _report(self, share: float) -> None:
        reached = int(share * PROGRESS_TOTAL)
        if reached > self._reported:
            self._progress.advance(reached - self._reported)
            self._reported = reached


def watch_trt10_11(trt: ModuleType, config: trt.IBuilderConfig, progress: BuildProgress) -> None:
    """Report the build to ``progress``. Ctrl-C ends the build at its next step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # An exception must not pass through TensorRT's C++ code; returning False ends the build cleanly.
            try:
                progress.step(phase_name, step)
            except KeyboardInterrupt:
                progress.interrupted = True
            return not progress.interrupted

    config.progress_monitor = Monitor()
