"""Folders of damaged images, given to ``index`` and ``match``: one bad file costs that file only."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Final

from fuzzing.image_cases import ImageCases, is_readable
from fuzzing.watching import FAULT, SOUND, USER_FOLDERS, Sentry
from fuzzing.world import MODEL_SPEC
from rrid_edge.crops.folder import is_image_name
from rrid_edge.errors import printable
from support.commands import Outcome, rrid_edge
from support.onnx_models import save_tiny_model

FILES: Final = 60
"""Images per folder."""
_QUERIES: Final = 3


class FolderCases:
    """Case ``number`` is a folder of the image cases from ``number * FILES`` on.

    Args:
        seed: of all cases.
        count: how many there are.
    """

    def __init__(self, seed: int, count: int) -> None:
        self.count = count
        self.only_reads = False
        self._images = ImageCases(seed, count * FILES)
        self._seed = seed
        self._sentry: Sentry | None = None
        self._folder = Path()

    def start(self, folder: Path) -> None:
        """Write the model. What commands keep for a user goes into ``folder`` too."""
        self._folder = folder
        self._sentry = self._sentry or Sentry()
        for name in USER_FOLDERS:
            os.environ[name] = str(folder)
        save_tiny_model(folder / "rrid.onnx", MODEL_SPEC)

    def stop(self) -> None:
        """Nothing is left to end."""

    def kind(self, _number: int) -> str:
        """All cases are of one kind."""
        return "folder of images"

    def save(self, number: int, folder: Path) -> None:
        """Write the files of a case."""
        generator = random.Random(f"folder {self._seed} {number}")
        for image in range(number * FILES, (number + 1) * FILES):
            case = self._images.make(image)
            below = folder / generator.choice(("", "", "a", "b/c"))
            below.mkdir(parents=True, exist_ok=True)
            (below / case.name).write_bytes(case.content)
        (folder / "notes.txt").write_text("no image")

    def check(self, number: int) -> tuple[str, str]:
        """Index the folder, list it, and ask for some of its files."""
        folder = self._folder / "crops"
        folder.mkdir()
        self.save(number, folder)
        assert self._sentry is not None
        try:
            with self._sentry.watching(self._folder) as offences:
                reason = self._checked(folder)
        finally:
            shutil.rmtree(folder)
        if offences or reason:
            return FAULT, offences[0] if offences else reason
        return SOUND, ""

    def _checked(self, folder: Path) -> str:
        """What is wrong with the answers of the commands; empty if nothing is."""
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        listed = {name: path for name, path in files.items() if is_image_name(name)}
        good = {name for name, path in listed.items() if is_readable(path.read_bytes(), name)}
        options = ("--model", self._folder / "rrid.onnx", "--runtime", "onnxruntime", "--json")
        indexed = rrid_edge("index", folder, *options, "--workers", 3)
        if reason := _wrong_index(indexed, folder, good, set(listed) - good):
            return reason
        rows = json.loads(rrid_edge("gallery", "list", folder, "--json").out)["rows"]
        expected = {in_json(name) for name in good}
        if (names := {row["path"] for row in rows}) != expected:
            return f"the index holds other files than the readable ones: {sorted(names ^ expected)[:3]!r}"
        for name in sorted(listed)[:_QUERIES]:
            if reason := _wrong_match(rrid_edge("match", listed[name], folder, *options), listed[name], name in good):
                return reason
        return ""


def in_json(name: str) -> str:
    """A file name as JSON has it: bytes that are no UTF-8 are characters from U+EF80 to U+EFFF."""
    return re.sub("[\udc80-\udcff]", lambda found: chr(ord(found[0]) - 0xDC00 + 0xEF00), name)


def _wrong_index(outcome: Outcome, folder: Path, good: set[str], bad: set[str]) -> str:
    if outcome.code != (0 if good else 2) or "Traceback" in outcome.err:
        return f"index: exit code {outcome.code} for {len(good)} readable files: {outcome.err[-300:]}"
    if not good:
        return ""
    facts = json.loads(outcome.out)
    failed = {path for path, _ in facts["failed"]}
    odd = sorted(failed ^ {in_json(name) for name in bad})
    if facts["rows"] != len(good) or facts["added"] != len(good) or odd:
        return f"index: {facts['added']} added, expected {len(good)}; left out otherwise: {odd[:3]!r}"
    lines = [line for line in outcome.err.splitlines() if line.startswith("left out ")]
    for name in bad:
        if not any(
            line.startswith((f"left out {printable(name)}: ", f"left out {printable(folder / name)}: "))
            for line in lines
        ):
            return f"index does not name {name!r}"
    return (
        ""
        if all(line.isprintable() for line in outcome.err.split("\n"))
        else f"control characters: {outcome.err!r:.300}"
    )


def _wrong_match(outcome: Outcome, path: Path, is_good: bool) -> str:
    last = (outcome.err.strip().splitlines() or [""])[-1]
    if is_good:
        return "" if outcome.code == 0 else f"match of a readable file: exit code {outcome.code}: {last}"
    if outcome.code != 2 or not last.startswith(f"rrid-edge: {printable(path)}: "):
        return f"match of {path.name!r}: exit code {outcome.code}: {last}"
    return ""
