"""The builder's progress as one number that only grows, from the nested phases that TensorRT 10 and 11 report."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import TYPE_CHECKING

from rrid_edge.progress import Progress

if TYPE_CHECKING:
    import tensorrt as trt

PROGRESS_TOTAL = 1000


class BuildProgress:
    """Adds nested phases up to thousandths of the whole.

    A step of a phase counts 1 / (its steps) of that phase, and an inner phase fills the step that its outer phase is
    at. TensorRT may call from several threads.

    Args:
        progress: told the thousandths that are done; :data:`PROGRESS_TOTAL` in all.
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
        """A phase begins."""
        with self._lock:
            self._phases[phase] = [0, max(1, steps)]
            self._parents[phase] = parent or None

    def step(self, phase: str, step: int) -> None:
        """Step number ``step`` (from 0) of a phase is done."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase][0] = min(step + 1, self._phases[phase][1])
            # The first phase of all is the whole build, the others are inside it.
            root = next(iter(self._phases), phase)
            self._report(self._share(root))

    def finish(self, phase: str) -> None:
        """A phase ends, completed or not."""
        with self._lock:
            self._phases.pop(phase, None)
            self._parents.pop(phase, None)

    def complete(self) -> None:
        """The build is done."""
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
    """Report the build to ``progress``; Ctrl-C ends the build at its next step."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            # An exception must not travel through TensorRT's C++; False ends the build in an orderly way.
            try:
                progress.step(phase_name, step)
            except KeyboardInterrupt:
                progress.interrupted = True
            return not progress.interrupted

    config.progress_monitor = Monitor()
