"""Names of any bytes run through all commands of galleries; their JSON is read by strict parsers."""

from __future__ import annotations

import os
import shutil

import msgspec
import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import model_path, model_text
from rrid_edge.json_text import name_of_text
from support.commands import rrid_edge
from support.galleries import milvus_address
from support.names import save_odd_names
from support.onnx_models import save_tiny_model
from support.pictures import noise


def strict(outcome, code=0):
    """The JSON of a command, as a strict parser reads it."""
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    return msgspec.json.decode(outcome.out.encode("utf-8"))


def names_of(texts):
    return {os.fsencode(name_of_text(text)) for text in texts}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A model, and a query whose name is no UTF-8."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RRID_EDGE_MODEL", raising=False)
    noise(1).save("picture.jpg")
    shutil.copy("picture.jpg", "q\udce9.jpg")
    save_tiny_model(tmp_path / "models" / "rrid.onnx")
    return tmp_path


def test_all_commands_of_a_local_gallery(desk):
    expected = save_odd_names(desk / "picture.jpg", desk / "g\udce9")
    report = strict(rrid_edge("index", "g\udce9", "--json"))
    assert (report["rows"], report["failed"], report["endings"]) == (len(expected), [], {})
    assert names_of([report["gallery"]]) == {b"g\xe9"}
    answer = strict(rrid_edge("match", "q\udce9.jpg", "g\udce9", "--top-k", "50", "--json"))
    (result,) = answer["results"]
    assert names_of(match["path"] for match in result["matches"]) == expected
    assert names_of(result["query"]) == {b"q\xe9.jpg"}
    assert names_of([answer["model"]]) == {os.fsencode(desk / "models" / "rrid.onnx")}
    listed = strict(rrid_edge("gallery", "list", "g\udce9", "--json"))
    assert names_of(row["path"] for row in listed["rows"]) == expected
    assert names_of([listed["info"]["model"]]) == {b"../../models/rrid.onnx"}
    assert strict(rrid_edge("gallery", "verify", "g\udce9", "--json"))["damaged"] == []
    assert rrid_edge("gallery", "export", "g\udce9", "a.npz").code == 0
    with np.load("a.npz") as exported:
        assert names_of(exported["paths"].tolist()) == expected
    chosen = ["latin1_\udce9\udcff.jpg", "new\nline.jpg", "--model=x.jpg"]
    planned = strict(rrid_edge("gallery", "forget", "g\udce9", "--dry-run", "--json", "--", *chosen))
    assert names_of(planned["paths"]) >= {os.fsencode(name) for name in chosen}
    forgotten = strict(rrid_edge("gallery", "forget", "g\udce9", "--json", "--", *chosen))
    assert names_of(forgotten["paths"]) == expected  # all have the same content
    for line in (desk / "g\udce9" / ".rrid-edge" / "audit.jsonl").read_bytes().splitlines():
        assert msgspec.json.decode(line)["command"] in ("export", "forget")


def test_a_pattern_that_is_no_text_is_refused(desk):
    noise(2).save("a.jpg")
    outcome = rrid_edge("index", ".", "--pattern", "\udce9(?P<camera>.)")
    assert outcome.code == 2
    assert r"pattern \udce9(?P<camera>.): this is no UTF-8 text" in outcome.err


def test_milvus_lite_keeps_the_names(desk):
    pytest.importorskip("milvus_lite")
    expected = save_odd_names(desk / "picture.jpg", desk / "crops")
    spec = fake_spec(block_width=4)
    address = milvus_address(f"milvus+file:{desk}/lite.db/names")
    with MilvusGallery.create(address, spec) as gallery:
        report = index_folder(desk / "crops", gallery, FakeEngine(spec))
        assert (report.rows, report.failed) == (len(expected), ())
        assert {os.fsencode(row.path or "") for row in gallery.rows()} == expected
        assert gallery.verify().sound
        assert gallery.forget(["latin1_\udce9\udcff.jpg", "new\nline.jpg"], keep_out=False).rows == 2
        assert index_folder(desk / "crops", gallery, FakeEngine(spec)).added == 2


def test_a_model_in_a_folder_whose_name_is_no_utf8_is_remembered(tmp_path):
    location, model = tmp_path / "index", tmp_path / "m\udce9" / "rrid.onnx"
    with LocalGallery.create(location, fake_spec(block_width=4)) as gallery:
        gallery.remember({"model": model_text(location, model)})
        told = gallery.info().model
    assert told == "../m\uefe9/rrid.onnx"
    assert model_path(location, told) == model
