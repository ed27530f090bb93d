"""Events over HTTP: commits of this process and of others, coming back, going away."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import httpx
import pytest

from edge.serve.support import SPEC, FakeModels, client, indexed, make_gallery, problem, running, service_on
from rrid_edge.errors import GalleryError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import INDEX_FOLDER, create_store, open_store, parse_location
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from support.galleries import vectors
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops


class Stream:
    """Reads server-sent events in a thread.

    Args:
        address: of the service.
        params: of the request.
        headers: of the request.
    """

    def __init__(self, address, params=None, headers=None):
        self.events: list[tuple[str, str, dict]] = []
        self._came = threading.Condition()
        where = urllib.parse.urlsplit(address)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
        path = f"{where.path}/api/v1/events?{urllib.parse.urlencode(params or {})}"
        connection.request("GET", path, headers=headers or {})
        self._socket, self._response = connection.sock, connection.getresponse()
        assert self._response.status == 200
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        event: dict[str, str] = {}
        with contextlib.suppress(OSError, http.client.HTTPException):
            while line := self._response.readline().decode():
                name, _, value = line.strip().partition(": ")
                if line.strip():
                    event[name] = value
                elif "data" in event:
                    self._add((event["event"], event["id"], json.loads(event["data"])))
                    event = {}
        self._add(("end", "", {}))

    def _add(self, event):
        with self._came:
            self.events.append(event)
            self._came.notify_all()

    def wait(self, kind, timeout=120.0):
        """The next event of a kind; earlier ones of other kinds are dropped."""
        with self._came:
            assert self._came.wait_for(lambda: any(event[0] == kind for event in self.events), timeout), self.events
            while (event := self.events.pop(0))[0] != kind:
                pass
            return event

    def close(self):
        with contextlib.suppress(OSError):  # the server may have ended it
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._response.close()


@pytest.fixture
def served(tmp_path):
    """A running service on one gallery of four crops: the service, its address, and a function that follows it."""
    make_gallery(tmp_path / "gallery", 4)
    with service_on(tmp_path) as service, running(service) as address, contextlib.ExitStack() as stack:

        def follow(**options):
            stream = Stream(address, **options)
            stack.callback(stream.close)
            return stream

        follow_first = follow()
        service.followers["gallery"].wait_until_looked()
        yield service, address, follow, follow_first


def test_commits_become_events(served):
    service, _, _, stream = served
    gallery = service.gallery(None)
    with open_store(gallery.location, write=True) as other:  # as another process would
        ids = other.add([NewRow(None, camera="9"), NewRow(None)], vectors(2))
        _, _, data = stream.wait("crop-added")
        assert data == {"gallery": "gallery", "ids": ids, "count": 2}
        other.update([dataclasses.replace(other.rows()[0], label="Ann")])
        assert stream.wait("gallery-changed")[2]["gallery"] == "gallery"
        other.forget([ids[0]])
        assert stream.wait("crop-forgotten")[2] == {"gallery": "gallery", "ids": [ids[0]], "count": 1}
        other.finish()
        other.remember({"pattern": "auto"})
        other.remove([ids[1]])
        assert stream.wait("crop-forgotten")[2]["ids"] == [ids[1]]
        assert stream.events == []  # commits that change no row are no events


def test_an_index_of_another_process_is_noticed(served, tmp_path):
    _, address, _, stream = served
    noise(77).save(tmp_path / "gallery" / "0009_c2s1_000001_00.jpg")
    indexed(tmp_path / "gallery")
    (id_,) = stream.wait("crop-added")[2]["ids"]
    assert httpx.get(f"{address}/api/v1/crops/{id_}").json()["path"] == "0009_c2s1_000001_00.jpg"


def test_a_client_comes_back(served):
    service, _, follow, stream = served
    for number in range(3):
        service.events.publish("person-changed", "gallery", {"ids": [number]})
    _, first, _ = stream.wait("person-changed")
    again = follow(headers={"Last-Event-ID": first})
    assert [again.wait("person-changed")[2]["ids"] for _ in range(2)] == [[1], [2]]
    assert follow(headers={"Last-Event-ID": "of-another-run-7"}).wait("reset")[1] == service.events.last_id


def test_one_gallery_and_unknown_ones(served):
    service, address, follow, _ = served
    stream = follow(params={"gallery": "gallery"})
    service.events.publish("person-changed", "other", {})
    service.events.publish("person-changed", "gallery", {"ids": [1]})
    assert stream.wait("person-changed")[2]["ids"] == [1]
    problem(httpx.get(f"{address}/api/v1/events", params={"gallery": "none"}), 404, "is not served")


def test_clients_that_go_away_are_dropped_and_closing_ends_the_others(served):
    service, _, follow, stream = served
    other = follow()
    assert _settles(lambda: service.events.followers, 2)
    other.close()
    assert _settles(lambda: service.events.followers, 1)
    service.events.close()
    assert stream.wait("end")
    assert _settles(lambda: service.events.followers, 0)


def test_too_many_followers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rrid_edge.serve.routes.events.MOST_FOLLOWERS", 0)
    with service_on(tmp_path, {"gallery": 1}) as service, client(service) as asked:
        answer = asked.get("/api/v1/events")
        problem(answer, 503, "try again later")
        assert answer.headers["retry-after"] == "10"


def test_an_index_that_is_gone_for_a_while_is_a_warning(served, tmp_path, caplog):
    _, _, _, stream = served
    index = tmp_path / "gallery" / INDEX_FOLDER
    index.rename(tmp_path / "away")
    assert _settles(lambda: any("are not noticed now" in record.message for record in caplog.records), True)
    (tmp_path / "away").rename(index)
    with open_store(index, write=True) as other:
        other.add([NewRow(None)], vectors(1))
    assert stream.wait("crop-added")
    assert len([record for record in caplog.records if "are not noticed now" in record.message]) == 1


def _settles(value, expected):
    until = time.monotonic() + 120
    while value() != expected and time.monotonic() < until:
        time.sleep(0.02)
    return value() == expected


def test_an_index_command_beside_the_service(tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    folder = tmp_path / "gallery"
    save_crops(folder, 2)
    index = [sys.executable, "-m", "rrid_edge.cli", "index", str(folder), "--model", str(model)]
    with subprocess.Popen(
        [*index, "--runtime", "onnxruntime", "--watch", "--settle", "0.3"], stderr=subprocess.PIPE
    ) as process:
        assert _settles(lambda: _rows(folder / INDEX_FOLDER), 2)
        with service_on(tmp_path, {"gallery": 2}) as service, running(service) as address:
            stream = Stream(address)
            service.followers["gallery"].wait_until_looked()
            noise(81).save(folder / "0005_c2s1_000003_00.jpg")
            (id_,) = stream.wait("crop-added")[2]["ids"]
            assert httpx.get(f"{address}/api/v1/crops/{id_}").json()["path"] == "0005_c2s1_000003_00.jpg"
            stream.close()
        process.terminate()
        process.communicate(timeout=120)


def _rows(index):
    try:
        with open_store(index) as store:
            return store.info().rows
    except GalleryError:  # not there yet
        return None


def test_a_gallery_on_a_server(lite_file, tmp_path, monkeypatch):
    """Milvus: pages, pictures, pushes and forgetting work as in a folder; its commits are noticed by its rows."""
    monkeypatch.setattr("rrid_edge.serve.following._SERVER_POLL_S", 0.2)
    monkeypatch.setattr("rrid_edge.serve.listing._SERVER_ROWS_S", 0.0)
    location = f"milvus+file:{lite_file}/served"
    with create_store(parse_location(location), SPEC) as store:
        ids = store.add(
            [NewRow(f"{n}.jpg", f"{n:064x}", 1, 2, camera=str(n % 2), time=n) for n in range(5)], vectors(5)
        )
    stream, picture = [], io.BytesIO()
    noise(3).save(picture, "JPEG")
    with Service(ServeSettings((location,)), FakeModels()) as service, client(service) as asked:
        service.followers["served"].wait_until_looked()
        monkeypatch.setattr(service.events, "publish", lambda kind, gallery, data: stream.append((kind, data)))
        page = asked.get("/api/v1/crops", params={"limit": 2, "camera": "0"}).json()
        assert ([crop["id"] for crop in page["crops"]], page["total"]) == ([ids[4], ids[2]], 3)
        rest = asked.get("/api/v1/crops", params={"limit": 2, "camera": "0", "cursor": page["next"]}).json()
        assert ([crop["id"] for crop in rest["crops"]], rest["next"]) == ([ids[0]], None)
        problem(asked.get(f"/api/v1/crops/{ids[0]}/image"), 404, "is not on this machine")
        pushed = asked.post("/api/v1/crops", files={"image": ("a.jpg", picture.getvalue())}, data={"camera": "9"})
        assert pushed.status_code == 201, pushed.text
        assert ("crop-added", {"ids": [pushed.json()["id"]]}) in stream
        assert asked.get(pushed.json()["thumbnail"].replace("/reid", "")).status_code == 200
        assert asked.delete(f"/api/v1/crops/{ids[1]}").json()["ids"] == [ids[1]]
        problem(asked.get(f"/api/v1/crops/{ids[1]}"), 404)
        stream.clear()
        with open_store(parse_location(location), write=True) as other:
            other.add([NewRow(f"{n}.jpg", f"{n:064x}", 1, 2) for n in (7, 8)], vectors(2))
        assert _settles(lambda: ("gallery-changed", {"rows": 7}) in stream, True)
