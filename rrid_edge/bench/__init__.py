"""The benchmark: what this package does on this machine, with accuracy beside speed."""

from __future__ import annotations

from rrid_edge.bench.report import BenchReport
from rrid_edge.bench.running import BenchSettings, run_bench

__all__ = ["BenchReport", "BenchSettings", "run_bench"]
