"""Fixtures of all tests: threads per worker, no use of the user's cache, and servers that several modules share."""

from __future__ import annotations

import os

# pytest-xdist runs one worker per core. In every worker, NumPy and PyTorch would start one thread per core. They read
# these variables at their first import, so import them only below this line.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from rrid_edge.model.names import onnx_path
from rrid_edge.model.spec import FLOAT32_NCHW
from support.milvus_server import TOKEN, MilvusServer, server_python
from support.sharing import made_once


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the longest tests first, so that no worker begins one when the others have ended."""
    long_files = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long_files)


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_session():
    """Limit ONNX Runtime to one thread. The default is one per core, which spins: two workers block each other."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    real = onnxruntime.InferenceSession

    class OneThread(real):  # type: ignore[valid-type, misc]
        def __init__(self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs):
            options = sess_options or onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.intra_op_num_threads or 1
            super().__init__(path_or_bytes, options, providers, provider_options, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", OneThread)
        yield


@pytest.fixture(autouse=True, scope="module")
def _no_handler_of_ended_workers():
    """Remove PyTorch's handler of SIGCHLD, which stays after a training with worker processes.

    Python's handlers run on the alternate signal stack. Libraries of other tests replace and free that stack; the next
    child process that ends would then crash this one.
    """
    yield
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if handling := sys.modules.get("torch.utils.data._utils.signal_handling"):
            vars(handling)["_SIGCHLD_handler_set"] = False  # the next training installs it again


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user():
    """Turn the user's cache of compiled models off. Tests of the cache set their own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RRID_EDGE_CACHE", "off")
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_state_of_the_user(tmp_path_factory: pytest.TempPathFactory):
    """Keep the user's audit log untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def lite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of Milvus Lite. Its server runs in this process until the process ends."""
    return tmp_path_factory.mktemp("lite") / "galleries.db"


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """Run a real server that asks for a token. The environment holds the token while the server runs."""
    if server_python() is None:
        pytest.fail("integration tests need a Milvus server: see CONTRIBUTING.md, RRID_EDGE_MILVUS_PYTHON")
    with pytest.MonkeyPatch.context() as patched, MilvusServer(tmp_path_factory.mktemp("milvus")) as running:
        patched.setitem(os.environ, "RRID_EDGE_MILVUS_TOKEN", TOKEN)
        yield running


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tiny network: its checkpoint ``tiny.pth``, and what the command exported.

    ``export.json`` holds the command's answer. All workers share the folder, so tests only read it.
    """
    return made_once(tmp_path_factory, "tiny-export", _export_tiny_network)


@pytest.fixture(scope="session")
def tiny_export_without_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as :func:`tiny_export`, exported with ``--no-flip``."""
    return made_once(tmp_path_factory, "tiny-without-mirror", lambda folder: _export_tiny_network(folder, "--no-flip"))


@pytest.fixture(scope="session")
def narrow_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the narrow network as ``rrid.onnx`` and ``rrid.fp16.onnx``. All workers share it."""
    return made_once(tmp_path_factory, "narrow-export", _export_narrow_network)


@pytest.fixture(scope="session")
def planes_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the narrow network as ``rrid.nchw.onnx``, written by the pipeline. All workers share it."""
    return made_once(tmp_path_factory, "planes-export", _export_narrow_network_for_planes)


def _export_tiny_network(folder: Path, *options: str) -> None:
    import torch  # only tests that need PyTorch wait for it

    from support.commands import rrid_edge
    from support.networks import TINY, tiny_network
    from support.pictures import save_crops

    torch.save(tiny_network().state_dict(), folder / "tiny.pth")
    save_crops(folder / "crops", 8)
    size = ("--height", TINY.height_px, "--width", TINY.width_px)
    where = ("-o", folder, "--crops", folder / "crops", "--json")
    outcome = rrid_edge("export", folder / "tiny.pth", *size, *where, *options)
    assert outcome.code == 0, outcome
    (folder / "export.json").write_text(outcome.out)


def _export_narrow_network_for_planes(folder: Path) -> None:
    from rrid_export.pipeline import ExportSettings, export_network
    from support.networks import narrow_source

    export_network(narrow_source(), folder, ExportSettings(form=FLOAT32_NCHW))


def _export_narrow_network(folder: Path) -> None:
    from rrid_export.branch import InferenceBranch
    from rrid_export.onnx import export_onnx
    from support.networks import narrow_source

    source = narrow_source()
    for precision in ("fp32", "fp16"):
        branch = InferenceBranch(source.model).eval()
        spec = source.spec().with_precision(precision)
        export_onnx(branch if precision == "fp32" else branch.to_half(), spec, folder / onnx_path(Path(), precision))
