"""Networks of the Hugging Face hub, from a stand-in of it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

from rrid_edge.cli import export_source
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import ModelSpec
from rrid_export.hub import HubFile, fetched
from rrid_export.hub_address import HubAddress
from support.commands import refused, rrid_edge
from support.foreign import ForeignFile
from support.hub import Repository, point_to, serving

FIRST, SECOND = "1" * 40, "ab" * 20
NETWORK = ForeignFile().model().SerializeToString()


@pytest.fixture(scope="module")
def server():
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """A hub with one repository of two commits, and an empty cache."""
    server.repositories.clear()
    server.asked.clear()
    server.broken, server.hides_commits = None, False
    files = {
        "net.onnx": NETWORK, "onnx/deep.onnx": NETWORK, "setup.py": b"raise SystemExit", "w.safetensors": b"weights",
        "ir/net.xml": b"<net/>", "ir/net.bin": b"weights", "alone.xml": b"<net/>",
    }  # fmt: skip
    first = files | {"net.onnx": ForeignFile(unit=True).model().SerializeToString()}
    revisions = {"main": SECOND, "v1": FIRST, "refs/pr/3": FIRST, "some/branch": FIRST}
    server.repositories["people/osnet.x1"] = Repository({FIRST: first, SECOND: files}, revisions)
    point_to(server.endpoint, tmp_path / "home", monkeypatch)
    return server


def _fetched(address, **options) -> AbstractContextManager[HubFile]:
    return fetched(HubAddress.parse(address, (".onnx", ".xml")), **options)


def _adopt(tmp_path, address, *options):
    return rrid_edge("adopt", address, "-o", tmp_path / "out", "--preset", "torchreid", *options)


def test_a_network_of_the_hub_is_adopted_at_its_commit(hub, tmp_path):
    outcome = _adopt(tmp_path, "hf://people/osnet.x1/onnx/deep.onnx")
    assert outcome.code == 0, outcome.err
    origin = f"hf://people/osnet.x1@{SECOND}/onnx/deep.onnx"
    assert f"fetched {origin}" in outcome.err
    spec = read_spec(tmp_path / "out" / "deep.onnx")
    assert (spec.origin, spec.backbone) == (origin, "deep")
    assert hub.names() == {"deep.onnx"}


@pytest.mark.parametrize(
    ("revision", "commit"),
    [("", SECOND), ("@main", SECOND), ("@v1", FIRST), (f"@{FIRST}", FIRST), ("@refs/pr/3", FIRST),
     ("@some%2Fbranch", FIRST)],
)  # fmt: skip
def test_a_revision_becomes_a_commit(hub, revision, commit):
    with _fetched(f"hf://people/osnet.x1{revision}/net.onnx") as file:
        assert file.origin == f"hf://people/osnet.x1@{commit}/net.onnx"
        assert (file.path.read_bytes() == NETWORK) == (commit == SECOND)


def test_a_cached_file_needs_no_hub(hub, monkeypatch):
    for revision in ("", "@v1"):
        with _fetched(f"hf://people/osnet.x1{revision}/net.onnx"):
            pass
    asked = len(hub.asked)
    with _fetched(f"hf://people/osnet.x1@{FIRST}/net.onnx") as file:
        assert file.path.name == "net.onnx"
    assert len(hub.asked) == asked  # a commit never changes
    for name, value in (("HF_HUB_OFFLINE", True), ("HF_HUB_OFFLINE", False)):
        monkeypatch.setattr(constants, name, value)
        hub.broken = 503
        with _fetched("hf://people/osnet.x1/net.onnx") as file:
            assert file.origin.endswith(f"@{SECOND}/net.onnx")
    hub.broken = None
    hub.repositories["people/osnet.x1"].revisions["main"] = FIRST
    with _fetched("hf://people/osnet.x1/net.onnx") as file:
        assert file.origin.endswith(f"@{FIRST}/net.onnx")


def test_offline_without_the_file_is_one_line(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 3, "HF_HUB_OFFLINE is set", "not in the cache")
    assert not hub.asked


def test_a_hub_that_does_not_answer_is_one_line(hub, tmp_path, monkeypatch):
    hub.broken = 503
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 3, "the hub does not answer", "not in the cache")
    hub.broken = 404  # a server that is no hub
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 2, "the hub has no such repository, revision or file")
    hub.broken, hub.hides_commits = None, True
    outcome = _adopt(tmp_path, "hf://people/osnet.x1/net.onnx")
    refused(outcome, 3, "the hub does not answer (FileMetadataError", "not in the cache")
    point_to("http://127.0.0.1:9", tmp_path, monkeypatch)
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 3, "the hub does not answer", "refused")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("people/nobody/net.onnx", "the hub has no repository people/nobody, or it is private"),
        ("people/osnet.x1@v2/net.onnx", "the repository has no revision v2"),
        ("people/osnet.x1/other.onnx", "the repository has no file other.onnx"),
        ("people/osnet.x1/setup.py", "only .onnx and .xml files are fetched"),
        ("people/osnet.x1/w.safetensors", "only .onnx and .xml files are fetched"),
        ("people/osnet.x1", "expected hf://OWNER/REPO[@REVISION]/FILE"),
        ("people", "no address of a file"),
        ("", "no address of a file"),
        ("people/osnet.x1/../net.onnx", "no address of a file"),
        ("people/osnet.x1//net.onnx", "no address of a file"),
        ("people/osnet.x1@/net.onnx", "no address of a file"),
        ("people/osnet.x1@a..b/net.onnx", "no address of a file"),
        ("people/os net/net.onnx", "no address of a file"),
        ("people/osnet.x1/a\nb.onnx", "no address of a file"),
        ("datasets/people/osnet.x1/net.onnx", "no address of a file"),
        ("people/a--b..c/net.onnx", "no name of a repository"),
    ],
    ids=lambda value: repr(value) if "/" in value or not value else "",
)
def test_addresses_that_lead_nowhere(hub, address, words, tmp_path):
    refused(_adopt(tmp_path, f"hf://{address}"), 2, words)
    assert not hub.names()


def test_private_and_gated_repositories_need_a_token(hub, tmp_path, monkeypatch):
    public = hub.repositories["people/osnet.x1"]
    hub.repositories["people/private"] = Repository(public.commits, public.revisions, token="secret")
    hub.repositories["people/gated"] = Repository(public.commits, public.revisions, token="secret", gated=True)
    refused(_adopt(tmp_path, "hf://people/private/net.onnx"), 2, "or it is private", "HF_TOKEN")
    refused(_adopt(tmp_path, "hf://people/gated/net.onnx"), 2, "is gated: ask for access", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "secret")
    for name in ("private", "gated"):
        with _fetched(f"hf://people/{name}/net.onnx") as file:
            assert file.path.read_bytes() == NETWORK
    assert {token for _, path, token in hub.asked if "/cdn/" in path} == {None}  # the token is for the hub only


def _with_outside(tmp_path, location):
    """The network with its weights in a file: the content of both."""
    folder = tmp_path / "made"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save_model(ForeignFile().model(), str(path), save_as_external_data=True, size_threshold=0, location="w.bin")
    model = onnx.load_model(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    return model.SerializeToString(), (folder / "w.bin").read_bytes()


@pytest.mark.parametrize("location", ["net.onnx.data", "weights/net.bin"])
def test_weights_in_a_file_of_their_own_are_fetched_too(hub, location, tmp_path):
    graph, weights = _with_outside(tmp_path, location)
    files = {"sub/big.onnx": graph, f"sub/{location}": weights, "sub/other.bin": b"no"}
    hub.repositories["people/osnet.x1"].commits[SECOND] = files
    outcome = _adopt(tmp_path, "hf://people/osnet.x1/sub/big.onnx")
    assert outcome.code == 0, outcome.err
    assert hub.names() == {"big.onnx", location.rpartition("/")[2]}
    plain = ForeignFile().write(tmp_path / "plain.onnx")
    assert _adopt(tmp_path, plain).code == 0
    assert (
        read_spec(tmp_path / "out" / "big.onnx").fingerprint == read_spec(tmp_path / "out" / "plain.onnx").fingerprint
    )


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "run.py", "weights.pkl", "C:\\w.bin", ".bashrc"])
def test_files_that_a_network_may_not_name_are_not_fetched(hub, location, tmp_path):
    files = {"big.onnx": _with_outside(tmp_path, location)[0], location: b"no"}
    hub.repositories["people/osnet.x1"].commits[SECOND] = files
    refused(_adopt(tmp_path, "hf://people/osnet.x1/big.onnx"), 4, "for its weights, which is not fetched")
    assert hub.names() == {"big.onnx"}


def test_weights_that_the_repository_lacks_are_named(hub, tmp_path):
    hub.repositories["people/osnet.x1"].commits[SECOND] = {"big.onnx": _with_outside(tmp_path, "w.bin")[0]}
    refused(_adopt(tmp_path, "hf://people/osnet.x1/big.onnx"), 2, "the repository has no file w.bin")


def test_an_ir_comes_with_its_weights(hub):
    with _fetched("hf://people/osnet.x1/ir/net.xml") as file:
        assert (file.path.read_bytes(), file.path.with_suffix(".bin").read_bytes()) == (b"<net/>", b"weights")
        folder = file.path.parent
        assert not any(path.is_symlink() for path in folder.iterdir())
    assert not folder.exists()
    with (
        pytest.raises(UsageError, match=r"has no file alone\.bin"),
        _fetched("hf://people/osnet.x1/alone.xml"),
    ):
        pass


def test_the_facts_beside_a_file_come_with_it_if_there_are_any(hub, monkeypatch):
    def files() -> dict[str, bytes]:
        with _fetched("hf://people/osnet.x1/net.onnx", sidecar=True) as file:
            return {
                path.name: path.read_bytes() for path in file.path.parent.iterdir() if not path.name.startswith(".")
            }

    assert list(files()) == ["net.onnx"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert list(files()) == ["net.onnx"]  # the cache knows that the commit has none
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.repositories["people/osnet.x1"].commits["c" * 40] = {"net.onnx": NETWORK, "net.onnx.metadata.json": b"{}"}
    hub.repositories["people/osnet.x1"].revisions["main"] = "c" * 40
    assert files() == {"net.onnx": NETWORK, "net.onnx.metadata.json": b"{}"}


def test_a_file_of_more_than_two_gigabytes_is_refused_unfetched(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_export.hub.MOST_BYTES", len(NETWORK) - 1)
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 4, f"{len(NETWORK):,} bytes, expected")
    assert not hub.names()


def test_a_cache_that_cannot_be_written_is_named(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 2, "the hub's cache cannot be written", "HF_HOME")


def test_the_variables_of_the_hub_are_obeyed(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("HF_TOKEN", "mine")
    program = (
        "from rrid_export.hub import fetched, HubAddress\n"
        "with fetched(HubAddress('people/osnet.x1', 'main', 'net.onnx')) as file: print(file.path)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "other" / "hub"))
    assert {token for _, path, token in hub.asked if "/resolve/" in path} == {"mine"}


def test_variables_that_cannot_be_used_are_named(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "\xe4")
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 2, "HF_ENDPOINT or HF_TOKEN cannot be used")

    def fail(*_what):
        raise ValueError("Port out of range")

    monkeypatch.setattr("rrid_edge.cli.hub_files.require", fail)
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 2, "HF_ENDPOINT cannot be used (ValueError: Port out of")


def test_an_address_is_written_as_it_is_read():
    address = HubAddress.parse("hf://people/osnet.x1@refs/pr/3/a/net.onnx", (".onnx",))
    assert (address.repository, address.revision, address.file) == ("people/osnet.x1", "refs/pr/3", "a/net.onnx")
    assert str(HubAddress.parse("hf://people/net/a.onnx", (".onnx",))) == "hf://people/net@main/a.onnx"


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rrid_export.hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(_adopt(tmp_path, "hf://people/osnet.x1/net.onnx"), 3, "pip install 'rrid-edge[hub]'")
    refused(_adopt(tmp_path, "hf://people/osnet.x1"), 2, "no address of a file")


@dataclass(frozen=True)
class _Source:
    """What ``export`` reads from a checkpoint."""

    path: Path
    notes: tuple[str, ...] = ()
    origin: str = ""


def test_published_weights_of_the_hub_are_exported(hub, monkeypatch):
    seen = []

    def stop(given, _form):
        source = export_source.load_network(given)
        seen.append((source.path.read_bytes(), source.origin))
        raise UsageError("far enough")

    reader = SimpleNamespace(load_source=lambda path, **_choices: _Source(path))  # the real one imports PyTorch
    monkeypatch.setitem(sys.modules, "rrid_export.source", reader)
    monkeypatch.setattr(export_source, "require", lambda *_what: None)
    monkeypatch.setattr("rrid_edge.cli.export._export_checkpoint", stop)
    refused(rrid_edge("export", "hf://people/osnet.x1/w.safetensors"), 2, "far enough")
    origin = f"hf://people/osnet.x1@{SECOND}/w.safetensors"
    assert seen == [(b"weights", origin)]
    refused(rrid_edge("export", "hf://people/osnet.x1/net.onnx"), 2, "only .safetensors files are fetched")
    assert hub.names() == {"w.safetensors"}
    metadata = replace(fake_spec(), origin=origin).to_metadata()
    assert ModelSpec.from_metadata(metadata, where="x").origin == metadata["rrid.origin"] == origin
    assert "rrid.origin" not in fake_spec().to_metadata()
