"""The folder of a run: what it keeps and when, and how a run goes on from there after a kill at any moment.

``config.json`` is written first. ``last.safetensors`` and ``last.state.pt`` are written after each epoch, before its
validation, by time within an epoch, and when a run stops or fails between two steps. After a validation come
``best.safetensors`` and the measures in ``metrics.jsonl``, then these two again. The state always goes last: what a
kill leaves without a state that says so is made again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrid_edge.artefacts import Artefact
from rrid_edge.errors import CheckpointError, RridEdgeError, UsageError, printable
from rrid_edge.files import check_writable, folders_to_make, remove_empty, remove_left_overs, write_json
from rrid_train.checkpoint import Checkpoint, load_training_state, save_checkpoint, save_training_state
from rrid_train.config import stored_config
from rrid_train.data.layout import kind_of
from rrid_train.model import RRID
from rrid_train.settings import TrainConfig

STATE_FILE, CONFIG_FILE, METRICS_FILE = "last.state.pt", "config.json", "metrics.jsonl"
BEST_FILE, LAST_FILE = "best.safetensors", "last.safetensors"

_SETTINGS = Artefact("settings of a run", dict[str, Any], "start a new run in another folder", CheckpointError)


@dataclass(frozen=True)
class Saved:
    """What a run goes on from.

    Attributes:
        config: the settings of the run.
        state: the training state; None if the run was killed before its first one, so that it begins at step 0.
    """

    config: TrainConfig
    state: dict[str, Any] | None


def how_to_resume(folder: str | Path) -> str:
    """What to do to let a run go on."""
    return f"resume with: rrid-edge train --resume {printable(folder)}"


class RunFolder:
    """The files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_begun, self._made = False, list[Path]()
        self._replacing: TrainConfig | None = None

    @property
    def chosen(self) -> Path:
        """The checkpoint to use: the best by validation, or the last if no validation could measure."""
        best = self.path / BEST_FILE
        return best if best.exists() else self.path / LAST_FILE

    def begin(self, config: TrainConfig, *, overwrite: bool) -> None:
        """Make the folder of a new run, and write its settings.

        With ``overwrite`` an earlier run stays until :meth:`replace_earlier`, so that nothing that is refused costs it.

        Args:
            config: the settings.
            overwrite: an earlier run may be deleted.

        Raises:
            UsageError: the folder holds files of a run, and ``overwrite`` is not set; or there is no dataset.
            DatasetError: the dataset's folder has the form of no dataset.
            OutputError: the folder cannot be written.
        """
        kind_of(config.dataset_path, config.dataset_type)
        if self.path.is_file():
            raise UsageError(f"{printable(self.path)}: this is a file; expected a new folder", parameter="exp_dir")
        if any((self.path / name).exists() for name in (STATE_FILE, CONFIG_FILE, METRICS_FILE, BEST_FILE, LAST_FILE)):
            if not overwrite:
                raise UsageError(
                    f"{printable(self.path)}: the folder already holds a run, expected a new folder; resume the run, "
                    "overwrite it, or give another folder",
                    parameter=("resume", "overwrite", "exp_dir"),
                )
            check_writable(self.path)
            self._replacing = config
            return
        self._made = folders_to_make(self.path)
        write_json(self.path / CONFIG_FILE, config.to_dict())
        self._is_begun = True

    @contextlib.contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """Context of what precedes the first step. An error of this package undoes :meth:`begin`."""
        try:
            yield
        except RridEdgeError:
            if self._is_begun:
                (self.path / CONFIG_FILE).unlink(missing_ok=True)
                remove_empty(self._made)
            raise

    def told_if_stopped(self) -> str:
        """What is kept if the training is stopped before its first step."""
        if self._replacing is not None:
            return f"no step was done; the earlier run in {printable(self.path)} is kept"
        return f"no step was done; {how_to_resume(self.path)}"

    def replace_earlier(self) -> None:
        """Delete the earlier run that :meth:`begin` was to overwrite, and write the settings; nothing without one.

        Raises:
            OutputError: the folder cannot be written.
        """
        if self._replacing is None:
            return
        config, self._replacing = self._replacing, None
        # In this order, a kill leaves either a run that can be resumed or none.
        for name in (CONFIG_FILE, STATE_FILE):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path)
        write_json(self.path / CONFIG_FILE, config.to_dict())

    def clean(self) -> None:
        """Remove the temporary files of runs that were killed here."""
        remove_left_overs(self.path)

    def read(self) -> Saved:
        """Read what the run goes on from. Its ``exp_dir`` is this folder, which may have been moved.

        Raises:
            UsageError: there is no run.
            CheckpointError: the settings or the state are damaged.
        """
        config, state = self.path / CONFIG_FILE, self.path / STATE_FILE
        if state.exists() or not config.exists():
            saved = load_training_state(state)
            if not isinstance(saved.get("config"), str):
                raise damaged_state(self.path, "it holds no settings")
            values, where = _SETTINGS.parse(saved["config"], where=printable(state)), state
        else:
            saved, values, where = None, _SETTINGS.read(config), config
        return Saved(stored_config({**values, "exp_dir": str(self.path)}, where=printable(where)), saved)

    def save(self, model: RRID, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        """Write the weights to deploy, then the training state. Each file is written atomically.

        Raises:
            OutputError: a file cannot be written; the earlier one is intact.
        """
        save_checkpoint(self.path / LAST_FILE, model, checkpoint)
        self._save_state(checkpoint.config, state)

    def keep(self, config: TrainConfig, state: dict[str, Any] | None) -> None:
        """Write other settings of a run that goes on: ``config.json``, and the training state if there is one.

        Raises:
            OutputError: a file cannot be written; the earlier one is intact.
        """
        write_json(self.path / CONFIG_FILE, config.to_dict())
        if state is not None:
            self._save_state(config.to_dict(), state)

    def _save_state(self, config: dict[str, Any], state: dict[str, Any]) -> None:
        save_training_state(self.path / STATE_FILE, {"config": json.dumps(config), **state})

    def save_best(self, model: RRID, checkpoint: Checkpoint) -> None:
        """Write the best checkpoint so far.

        Raises:
            OutputError: it cannot be written; the earlier one is intact.
        """
        save_checkpoint(self.path / BEST_FILE, model, checkpoint)


def damaged_state(folder: Path, reason: str) -> CheckpointError:
    """The error for a training state that cannot be used."""
    return CheckpointError(
        f"{printable(folder / STATE_FILE)}: the training state is damaged ({reason}); start a new run"
    )
