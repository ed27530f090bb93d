"""Weight files that try to run code, in every container: nothing runs, and each is refused in one line."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from rrid_edge.errors import CheckpointError
from rrid_train.checkpoint import is_checkpoint, load_checkpoint, load_training_state
from rrid_train.weights import load_weights
from support.weight_containers import called, legacy_of, text, zip_of
from support.weight_tricks import PROGRAM, SHELL, SYSTEM, TRICKS


def _containers(pickled: bytes) -> dict[str, bytes]:
    """Files around a pickle, by name."""
    inner = zip_of(pickled)
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("weights/data.pth", inner)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        entry = tarfile.TarInfo("pickle")
        entry.size = len(pickled)
        archive.addfile(entry, io.BytesIO(pickled))
    return {
        "zip.pth": inner,
        "zip.ckpt": inner,
        "zip.safetensors": inner,
        "legacy.pth": legacy_of(pickled),
        "legacy.pth.tar": legacy_of(pickled),
        "plain.pkl": pickled,
        "plain.SAFETENSORS": pickled,
        "plain.bin": pickled[2:],
        "stream.pt": pickle.dumps({}) + pickled,  # what follows a plain pickle is never looked at
        "zip.gz": gzip.compress(inner),
        "nested.zip": outer.getvalue(),
        "old.tar": tar.getvalue(),
        "module.pt": zip_of(pickled, others={"constants.pkl": pickled, "code/__torch__.py": PROGRAM}),
    }


_SEEN: list[str] = []
_WATCHED = [False]
_HARMFUL = ("os.system", "os.exec", "os.spawn", "os.posix_spawn", "subprocess", "exec", "compile", "import", "pickle",
            "ctypes", "socket", "shutil", "os.remove", "os.rename", "os.fork", "marshal", "code.")  # fmt: skip


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _WATCHED[0]:
        return
    writes = event == "open" and isinstance(arguments[1], str) and not set(arguments[1]).isdisjoint("wax+")
    if writes or event.startswith(_HARMFUL):
        _SEEN.append(f"{event} {arguments}"[:200])


@pytest.fixture(scope="module", autouse=True)
def _hook() -> None:
    sys.addaudithook(_audit)


@contextmanager
def _watched() -> Iterator[None]:
    """Note every program, import and write in between."""
    _SEEN.clear()
    _WATCHED[0] = True
    try:
        yield
    finally:
        _WATCHED[0] = False


@pytest.mark.parametrize("name", list(_containers(b"\x80\x02N.")))
@pytest.mark.parametrize("place", ["alone", "beside"])
def test_no_trick_runs_in_any_container(tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(zip_of(pickle.dumps({"a": 1}, protocol=2)))
    with pytest.raises(CheckpointError):  # imports what is imported on first use
        load_weights(path)
    for trick, instructions in TRICKS.items():
        body = instructions if place == "alone" else b"}(" + text("a") + b"N" + text("b") + instructions + b"u"
        content = _containers(b"\x80\x02" + body + b".")[name]
        path.write_bytes(content)
        readers = (load_weights, load_training_state) if name != "stream.pt" else (load_weights,)
        for read in readers:
            with _watched(), pytest.raises(CheckpointError) as refusal:
                read(path)
            assert not _SEEN, (trick, _SEEN)
            assert refusal.value.message.startswith(str(path)), trick
            assert "\n" not in refusal.value.message, trick
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_audit_sees_what_the_tricks_would_do(tmp_path, monkeypatch):
    """The tricks are real: Python's own reader of pickles runs them."""
    monkeypatch.chdir(tmp_path)
    with _watched():
        pickle.loads(b"\x80\x02" + called("os", "system", SHELL) + b".")
    assert any(entry.startswith("os.system") for entry in _SEEN)
    assert (tmp_path / "was_here").exists()


def test_a_real_torchscript_archive_is_refused_before_torch_sees_it(tmp_path, monkeypatch):
    class Writes(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values + 1

    def refuse(*_arguments, **_options):
        raise AssertionError("the file reached torch")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(Writes(), torch.zeros(1)), str(tmp_path / "script.pth"))
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch.jit, "load", refuse)
    for read in (load_weights, load_training_state, is_checkpoint, load_checkpoint):
        with pytest.raises(CheckpointError, match="TorchScript") as refusal:
            read(tmp_path / "script.pth")
        assert refusal.value.exit_code == 4


def test_a_refusal_names_what_the_file_tries_to_call(tmp_path):
    path = tmp_path / "evil.pth"
    path.write_bytes(zip_of(b"\x80\x02" + called("os", "system", SHELL) + b"."))
    with pytest.raises(CheckpointError, match=r"evil.pth: refused, it tries to call os.system; expected tensors only"):
        load_weights(path)
    path.write_bytes(zip_of(b"\x80\x02" + SYSTEM + b"."))
    with pytest.raises(CheckpointError, match=r"refused, it refers to os.system"):
        load_weights(path)
    path.write_bytes(gzip.compress(zip_of(b"\x80\x02N.")))
    with pytest.raises(CheckpointError, match=r"it is a gzip archive: unpack or convert it first"):
        load_weights(path)


def test_nothing_in_the_packages_reads_pickles():
    """Every file of another program goes through the readers that these tests are about."""
    root = Path(__file__).parents[2]
    forbidden = re.compile(
        r"torch\.load\(|jit\.load\(|hub\.load|load_state_dict_from_url"
        r"|import (c?[pP]ickle|joblib|dill|shelve|marshal)\b|yaml\.(unsafe_)?load\("
        r"|allow_pickle=True|weights=\"DEFAULT\""
    )
    for package in ("rrid_edge", "train", "export", "calib"):
        for module in (root / package).rglob("*.py"):
            source = module.read_text(encoding="utf-8")
            if module.name not in ("workers.py", "on_ray.py"):  # pickles of their own processes, through pipes
                assert not forbidden.search(source), module
            for arguments in re.findall(r"np\.load\(([^)]*)\)", source):
                assert "allow_pickle=False" in arguments, module
