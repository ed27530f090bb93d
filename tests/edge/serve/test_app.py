"""Tests of the application: health, galleries, engines, and the root path."""

from __future__ import annotations

import json
import os
import threading

import httpx
import numpy as np
import pytest

from edge.serve.support import SPEC, FakeModels, client, crop_files, make_gallery, problem, running, service_on
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import GalleryBusyError, GalleryMissingError, ModelFileError, UsageError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import location_of, open_store
from rrid_edge.model.names import parity_report_path
from rrid_edge.serve import galleries as served_galleries
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings


def test_a_service_answers_that_it_is_alive_and_ready(tmp_path):
    with service_on(tmp_path) as service, client(service) as asked:
        assert asked.get("/healthz").json() == {"status": "ok"}
        assert asked.get("/readyz").json() == {"status": "ready"}


class HeldModels(FakeModels):
    """Opens no engine before it is let go."""

    def __init__(self, failure=None):
        super().__init__()
        self.gate, self.failure = threading.Event(), failure

    def open(self, model):
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        return super().open(model)


def test_pages_and_galleries_answer_while_engines_open(tmp_path):
    make_gallery(tmp_path / "g", 4)
    models = HeldModels()
    with Service(ServeSettings((str(tmp_path / "g"),)), models) as service, client(service) as asked:
        problem(asked.get("/readyz"), 503, "still opening")
        assert asked.get("/api/v1/galleries").json()[0]["rows"] == 4
        assert len(asked.post("/api/v1/search", json={"crop": 1}).json()["matches"]) == 3
        assert asked.get("/api/v1/info").json()["engines"][0]["state"] == "opening"
        models.gate.set()
        assert asked.post("/api/v1/search", files=crop_files(tmp_path / "g")).status_code == 200
        assert asked.get("/readyz").status_code == 200


def test_an_engine_that_cannot_be_opened_is_told(tmp_path):
    make_gallery(tmp_path / "g", 4)
    models = HeldModels(ModelFileError("rrid.onnx: damaged; export it again"))
    models.gate.set()
    with Service(ServeSettings((str(tmp_path / "g"),)), models) as service, client(service) as asked:
        with pytest.raises(ModelFileError):
            service.workers[next(iter(service.workers))].wait_until_open(10)
        problem(asked.get("/readyz"), 503, "damaged; export it again")
        problem(asked.post("/api/v1/search", files=crop_files(tmp_path / "g")), 503, "damaged")
        engine = asked.get("/api/v1/info").json()["engines"][0]
        assert (engine["state"], engine["problems"]) == ("failed", ["rrid.onnx: damaged; export it again"])


def test_galleries_tell_what_they_hold(tmp_path):
    folder = make_gallery(tmp_path / "a", 7)
    vectors = np.eye(3, SPEC.dimension, dtype=np.float32)
    with service_on(tmp_path, {"b": 3, "a": 7}, read_only=True) as service, client(service) as asked:
        first, second = asked.get("/api/v1/galleries").json()
        assert (first["name"], first["rows"], second["name"], second["rows"]) == ("b", 3, "a", 7)
        assert second["cameras"] == [
            {"name": "1", "crops": 3}, {"name": "2", "crops": 2}, {"name": "3", "crops": 2},
        ]  # fmt: skip
        assert second["sources"] == {"local": 7}
        assert (second["first"], second["last"], second["writable"]) == (None, None, False)
        assert second["fingerprint"] == SPEC.fingerprint
        with open_store(location_of(folder), write=True) as store:
            named = (("Ann", "hall 2"), ("Bo", "10"), ("-1", None))
            store.add([NewRow(None, time=5, source="box", label=name, camera=at) for name, at in named], vectors)
        again = asked.get("/api/v1/galleries").json()[1]
        assert (again["rows"], again["sources"]) == (10, {"local": 7, "box": 3})
        assert (second["people"], again["people"]) == (0, 2)  # -1 is junk
        assert again["first"] == again["last"] == "1970-01-01T00:00:00.000005Z"
        assert [camera["name"] for camera in again["cameras"]] == ["1", "2", "3", "10", "hall 2", None]
        assert again["cameras"][-1] == {"name": None, "crops": 1}


def test_galleries_of_one_name_are_told_apart(tmp_path):
    for place in ("x", "y"):
        make_gallery(tmp_path / place / "g", 2)
    settings = ServeSettings((str(tmp_path / "x" / "g"), str(tmp_path / "y" / "g")))
    with Service(settings, FakeModels()) as service:
        assert list(service.galleries) == ["g", "g (2)"]
        assert service.gallery("g (2)").folder == tmp_path / "y" / "g"
        assert len(service.workers) == 1  # of one model


def test_a_name_that_is_no_text_is_told_as_text(tmp_path):
    folder = make_gallery(tmp_path / os.fsdecode(b"caf\xe9"), 2)
    with Service(ServeSettings((str(folder),)), FakeModels()) as service, client(service) as asked:
        assert asked.get("/api/v1/galleries").json()[0]["name"] == "caf\uefe9"
        match = asked.post("/api/v1/search", json={"crop": 1}, params={"gallery": "caf\uefe9"}).json()["matches"][0]
        assert asked.get(match["thumbnail"]).status_code == 200


def test_info_tells_engines_parity_and_room(tmp_path):
    with service_on(tmp_path, {"g": 4}) as service, client(service) as asked:
        gallery = service.gallery(None)
        gallery.model = tmp_path / "rrid.onnx"
        report = parity_report_path(gallery.model)
        engine = asked.get("/api/v1/info").json()["engines"][0]
        assert (engine["state"], engine["runtime"], engine["arithmetic"]) == ("open", "fake", "fp32")
        assert (engine["queue"], engine["queue_limit"], engine["galleries"]) == (0, 64, ["g"])
        assert engine["parity"] is None
        told = {"verdict": "passed", "passed": True, "engine": "fake", "reference": "torch", "arithmetic": "fp32"}
        cosines = {"min_cosine": 0.99, "mean_cosine": 0.999}
        report.write_text(json.dumps({**told, "fingerprint": SPEC.fingerprint, "agreement": cosines, "more": 1}))
        info = asked.get("/api/v1/info").json()
        assert info["engines"][0]["parity"] == {**told, **cosines}
        assert info["memory"]["resident"] > 1 << 20
        assert [disk["gallery"] for disk in info["disks"]] == ["g"]
        assert info["disks"][0]["free"] <= info["disks"][0]["total"]
        assert info["uptime_s"] >= 0
        report.write_text("{")
        problems = asked.get("/api/v1/info").json()["engines"][0]["problems"]
        assert "rrid-edge parity" in problems[0]
        report.write_text(json.dumps({**told, "fingerprint": "0" * 64, "agreement": cosines}))
        assert asked.get("/api/v1/info").json()["engines"][0]["parity"] is None


@pytest.mark.parametrize("stripped", [True, False], ids=["stripped", "kept"])
def test_under_a_root_path_addresses_have_it(tmp_path, stripped):
    root = "" if stripped else "/reid"
    with service_on(tmp_path, {"g": 3}, root_path="/reid") as service, client(service) as asked:
        answer = asked.post(f"{root}/api/v1/search", json={"crop": 1}).json()
        thumbnail = answer["matches"][0]["thumbnail"]
        assert thumbnail.startswith("/reid/api/v1/crops/")
        assert asked.get(thumbnail.removeprefix("/reid") if stripped else thumbnail).status_code == 200
        assert asked.get(f"{root}/").status_code == 200
        assert asked.get(f"{root}/healthz").status_code == 200


def test_a_server_runs_on_a_port_of_its_own(tmp_path):
    with service_on(tmp_path, {"g": 2}) as service, running(service) as address:
        assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}


def test_one_writer_at_a_time_and_a_bounded_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(served_galleries, "WAIT_FOR_WRITER_S", 0.2)
    with service_on(tmp_path, {"g": 3}) as service:
        served = service.gallery("g")
        with served.writing() as store:
            store.update([])
            with pytest.raises(GalleryBusyError, match="other requests write"), served.writing():
                pass
        with open_store(served.location, write=True), pytest.raises(GalleryBusyError, match="another process"):  # noqa: SIM117
            with served.writing():
                pass
        with served.writing() as store:
            assert store.remove([1]) == 1
        assert served.store.info().rows == 2


def test_a_gallery_served_for_reading_is_not_written(tmp_path):
    with service_on(tmp_path, {"g": 3}, read_only=True) as service:
        with pytest.raises(RequestError, match="reading only") as caught, service.gallery(None).writing():
            pass
        assert caught.value.status == 403


def test_what_cannot_be_served_is_refused(tmp_path):
    folder = make_gallery(tmp_path / "g", 2)
    with pytest.raises(UsageError, match="given twice"):
        Service(ServeSettings((str(folder), str(folder / ".rrid-edge"))), FakeModels())
    with pytest.raises(GalleryMissingError):
        Service(ServeSettings((str(folder), str(tmp_path / "none"))), FakeModels())
    with FakeEngine(fake_spec("other")) as engine, pytest.raises(Exception, match="model"):
        Service(ServeSettings((str(folder),)), FakeModels(engine))
