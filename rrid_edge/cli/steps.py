"""Steps of several commands, with their messages on stderr."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rrid_edge.cli.common import require, say, told_choice
from rrid_edge.errors import UsageError, item_at_work, printable

if TYPE_CHECKING:
    from rrid_edge.engines.base import Engine
    from rrid_edge.engines.runtime_choice import RuntimeChoice
    from rrid_edge.gallery.base import GalleryInfo
    from rrid_edge.gallery.indexing.sync import IndexReport
    from rrid_edge.model.spec import ModelSpec

_LONG_S = 10.0
"""Seconds of indexing from which its waiting times are worth a message."""


@dataclass(frozen=True)
class AskedRuntime:
    """How to run the model: the options of a command.

    Attributes:
        runtime: name of a runtime, or ``auto``.
        precision: arithmetic to force, or None.
        threads: CPU threads; 0 leaves it to the runtime.
        images: how many images the command will run, if it is known.
        measures: measure first which runtime is faster, where ``auto`` depends on it and it is not known yet.
        before_loading: called when the runtime is imported. What it starts in threads does not delay the import.
    """

    runtime: str = "auto"
    precision: str | None = None
    threads: int = 0
    images: int | None = None
    measures: bool = False
    before_loading: Callable[[], None] | None = None


def open_model(model: Path | None, gallery_model: Path | None, asked: AskedRuntime) -> tuple[Path, Engine]:
    """Choose and open a model, and say which one and why.

    Args:
        model: the option, or None.
        gallery_model: the model that the gallery was indexed with, or None.
        asked: how to run it.

    Returns:
        The model file and the opened engine.
    """
    from rrid_edge.engines import open_engine
    from rrid_edge.engines.opening import import_runtime
    from rrid_edge.model.choice import ENVIRONMENT_VARIABLE, choose_model

    is_chosen = model is not None or bool(os.environ.get(ENVIRONMENT_VARIABLE))
    if not is_chosen and gallery_model is not None and not gallery_model.is_file():
        say(
            f"{printable(gallery_model)}: the model of this gallery is no longer there; name its new place once with "
            "--model, and the gallery remembers it"
        )
    path, why = choose_model(model, gallery_model)
    with item_at_work(path):
        choice = _choose_runtime(path, asked)
        if asked.before_loading is not None:
            import_runtime(choice.runtime)
            asked.before_loading()
        engine = open_engine(path, choice.runtime, precision=asked.precision, threads=asked.threads)
    say(f"model {printable(path)} ({why}), {told_choice(choice)}: {engine.runtime}")
    return path, engine


def _choose_runtime(path: Path, asked: AskedRuntime) -> RuntimeChoice:
    from rrid_edge.engines import choose_runtime

    choice = choose_runtime(path, asked.runtime, precision=asked.precision, threads=asked.threads, images=asked.images)
    if not choice.is_unmeasured or not asked.measures:
        return choice
    from rrid_edge.engines.measuring import measure_runtimes

    say("measuring once whether ONNX Runtime or OpenVINO is faster here; this takes a few seconds")
    return measure_runtimes(path, threads=asked.threads)


def say_if_exact(info: GalleryInfo, option: str) -> None:
    """Say that an option for approximate indexes changes nothing here: the gallery is searched exactly anyway."""
    if info.index_type in ("", "flat"):
        kind = "in Milvus with the index flat" if info.index_type else "in a folder"
        say(f"{option} changes nothing: this gallery is {kind}, which is searched exactly anyway")


def say_weights(notes: Sequence[str]) -> None:
    """Say what was taken off, chosen or converted when weights were read; nothing for a plain file."""
    if notes:
        say(f"weights: {'; '.join(notes)}")


def refuse_weights(weights: str | None, path: Path | None) -> None:
    """Refuse the option where nothing is read that could hold two kinds of weights.

    Args:
        weights: the option, or None.
        path: the file that is read instead of a checkpoint, or None.

    Raises:
        UsageError: the option was given.
    """
    if weights is not None:
        read = printable(path) if path is not None else "the goldens beside the model"
        raise UsageError(
            f"weights {weights} can be chosen in a checkpoint only, but {read} is read; leave the choice out",
            parameter="weights",
        )


def open_network(path: Path, spec: ModelSpec, weights: str | None = None) -> Engine:
    """Open a checkpoint's network as an engine that runs in PyTorch, and say which of its weights were taken.

    Args:
        path: the checkpoint.
        spec: spec of the model to compare with.
        weights: the option, or None.

    Raises:
        MissingDependencyError: the extra ``export`` is not installed.
    """
    require("rrid_export.references", "export", "running the network in PyTorch")
    from rrid_export import references

    engine = references.open_network(path, spec, weights)
    say_weights(engine.notes)
    return engine


def say_files_left_out(folder: Path, *, follow_links: bool = False) -> None:
    """Say which files of a folder of images are not taken, in a line each or by their number."""
    from rrid_edge.crops.folder import describe_endings, find_images

    found = find_images(folder, follow_links=follow_links)
    _say_left_out(found.skipped, list(map(str, found.outside)), describe_endings(found.endings))


def _say_left_out(files: Iterable[tuple[str | Path, str]], outside: Sequence[str], endings: str) -> None:
    for path, reason in files:
        say(f"left out {printable(path)}: {reason}")
    say_links_left_out(outside)
    if endings:
        say(endings)


def say_links_left_out(paths: Sequence[str]) -> None:
    """Say that links were not followed, because they lead out of their folder; nothing if there are none."""
    from rrid_edge.crops.folder import describe_outside

    if paths:
        say(f"{describe_outside(paths)}; to read them: option --follow-links")


def say_indexed(report: IndexReport) -> None:
    """Say what the engine waited for during a long run, and which files were left out."""
    total_s = report.waited_for_decoding_s + report.computed_s + report.waited_for_disk_s
    if total_s > _LONG_S:
        decoding, disk = report.waited_for_decoding_s / total_s, report.waited_for_disk_s / total_s
        say(
            f"batches of {report.batch}, {report.workers} decoding workers; the engine waited {decoding:.0%} of the "
            f"time for images, {disk:.0%} for the disk"
        )
    from rrid_edge.crops.folder import describe_endings

    _say_left_out((*report.failed, *report.skipped), report.outside, describe_endings(report.endings))
