"""A training that is refused leaves no folder, and deletes no earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrid_edge.errors import UsageError
from rrid_train.loop import Trainer, train
from support.datasets import write_dataset
from support.small_training import make_trainings_small, small_config


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", train=4)


@pytest.fixture
def earlier(data, tmp_path, monkeypatch):
    """The folder of a finished run."""
    make_trainings_small(monkeypatch)
    train(small_config(data, tmp_path / "run", epochs=1))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_val": 99}, "num_val 99.* does not fit"),
        ({"batch_size": 1}, "batch size 1 does not fit"),
        ({"backbone_weights": "nowhere.pth"}, "no such weight file"),
        ({"splits_file": "nowhere.json"}, "nowhere.json"),
    ],
)
def test_a_refused_setting(data, earlier, tmp_path, change, words):
    before = _files(earlier)
    with pytest.raises(UsageError, match=words):
        train(small_config(data, earlier, **change), overwrite=True)
    assert _files(earlier) == before
    new = tmp_path / "runs" / "new"
    with pytest.raises(UsageError, match=words):
        train(small_config(data, new, **change))
    assert not new.parent.exists()


def test_other_files_of_a_new_folder_stay(data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="does not fit"):
        train(small_config(data, run, batch_size=1))
    assert _files(run) == {"notes.txt": b"mine"}


def test_ctrl_c_before_the_first_step_keeps_the_earlier_run(data, earlier, monkeypatch):
    def stop(*_arguments, **_names):
        raise KeyboardInterrupt

    before = _files(earlier)
    monkeypatch.setattr(Trainer, "__init__", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(small_config(data, earlier), overwrite=True)
    assert f"no step was done; the earlier run in {earlier} is kept" in vars(stopped.value).values()
    assert _files(earlier) == before
