"""The numbers of the service, read with the parsers of Prometheus' own client."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge.serve.support import SPEC, FakeModels, client, make_gallery, service_on
from rrid_edge import __version__
from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import GalleryUnavailableError
from rrid_edge.serve.metrics import Metrics
from rrid_edge.serve.routes import ROUTERS
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from rrid_edge.serve.traces import Traces, current_request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def samples(text, parse=parse_text):
    """The values by name and labels (``le`` of histograms too)."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found, name, **labels):
    key = (name, *sorted(labels.items()))
    return found[key]


@pytest.mark.parametrize("form", ["text", "OpenMetrics"])
def test_the_metrics_parse_and_say_what_is_served(tmp_path, form):
    other = fake_spec("other", block_width=2)
    make_gallery(tmp_path / "other", 8, other)
    headers, parse = ({}, parse_text) if form == "text" else ({"Accept": OPENMETRICS}, parse_openmetrics)
    with service_on(tmp_path, {"gallery": 12, "other": 8}) as service, client(service) as http:
        answer = http.get("/metrics", headers=headers)
    assert answer.status_code == 200
    expected = "text/plain" if form == "text" else "application/openmetrics-text"
    assert answer.headers["content-type"].startswith(expected)
    found = samples(answer.text, parse)
    assert value(found, "rrid_edge_gallery_rows", gallery="gallery") == 12
    assert value(found, "rrid_edge_gallery_rows", gallery="other") == 8
    assert value(found, "rrid_edge_gallery_up", gallery="other") == 1
    assert value(found, "rrid_edge_build_info", version=__version__) == 1
    assert value(found, "rrid_edge_gallery_info", gallery="gallery", fingerprint=SPEC.fingerprint, writable="yes") == 1
    engines = {dict(labels)["fingerprint"]: dict(labels) for name, *labels in found if name == "rrid_edge_engine_info"}
    assert set(engines) == {SPEC.fingerprint, other.fingerprint}
    assert set(engines[SPEC.fingerprint]) == {"model", "fingerprint", "runtime", "arithmetic", "max_batch"}
    assert value(found, "rrid_edge_queue_images", fingerprint=SPEC.fingerprint) == 0
    assert value(found, "rrid_edge_queue_limit_images", fingerprint=SPEC.fingerprint) == 64
    assert value(found, "rrid_edge_requests_running") == 1
    assert value(found, "process_open_fds") > 3


@pytest.mark.parametrize("folder", ["g\udce9", 'a"b\\c', "two\nlines"], ids=["bytes", "quotes", "lines"])
def test_a_gallery_has_its_name_also_if_it_is_odd(tmp_path, folder):
    with service_on(tmp_path, {folder: 4}) as service:
        (name,) = service.galleries
        service.metrics.search(name, "exact")
        found = samples(service.metrics.text()[0].decode())
    assert value(found, "rrid_edge_gallery_rows", gallery=name) == 4
    assert value(found, "rrid_edge_searches_total", gallery=name, mode="exact") == 1


def test_two_services_of_one_process_count_alone(tmp_path):
    with service_on(tmp_path, {"a": 4}) as first, service_on(tmp_path, {"b": 4}) as second:
        with client(first) as http:
            http.get("/healthz")
        names = [samples(service.metrics.text()[0].decode()) for service in (first, second)]
    request = ("rrid_edge_requests_total", ("code", "200"), ("method", "GET"), ("route", "/healthz"))
    assert names[0][request] == 1
    assert request not in names[1]


def test_requests_are_counted_by_template_and_unknown_paths_under_one_name(tmp_path):
    with service_on(tmp_path) as service, client(service) as http:
        for _ in range(3):
            http.get("/healthz?token=secret")
        for path in ("/api/v1/nothing", "/wp-login.php", "/healthz/../etc/passwd", "/%00"):
            assert http.get(path).status_code == 404
        http.request("BREW", "/healthz")
        found = samples(service.metrics.text()[0].decode())
    requests = {key[1:]: count for key, count in found.items() if key[0] == "rrid_edge_requests_total"}
    assert requests[("code", "200"), ("method", "GET"), ("route", "/healthz")] == 3
    assert requests[("code", "404"), ("method", "GET"), ("route", "unknown")] == 4
    assert {dict(key)["method"] for key in requests} == {"GET", "other"}
    assert "secret" not in repr(requests)
    assert value(found, "rrid_edge_request_seconds_count", route="/healthz") == 4
    assert value(found, "rrid_edge_request_seconds_bucket", route="/healthz", le="+Inf") == 4
    assert value(found, "rrid_edge_requests_running") == 0


def test_the_engine_is_counted():
    metrics = Metrics()
    for images, seconds in ((1, 0.5), (8, 0.25), (8, 0.25)):
        metrics.batch("f" * 64, images, seconds)
    metrics.waited("f" * 64, 0.02)
    metrics.search("g", "two-pass")
    found = samples(metrics.text()[0].decode())
    assert value(found, "rrid_edge_images_embedded_total", fingerprint="f" * 64) == 17
    assert value(found, "rrid_edge_engine_seconds_total", fingerprint="f" * 64) == 1
    buckets = {edge: value(found, "rrid_edge_engine_batch_images_bucket", fingerprint="f" * 64, le=edge) for edge in
               ("1.0", "4.0", "8.0", "+Inf")}  # fmt: skip
    assert buckets == {"1.0": 1, "4.0": 1, "8.0": 3, "+Inf": 3}
    assert value(found, "rrid_edge_queue_wait_seconds_sum", fingerprint="f" * 64) == 0.02
    assert value(found, "rrid_edge_searches_total", gallery="g", mode="two-pass") == 1


def test_a_gallery_that_does_not_answer_is_down_and_the_rest_is_told(tmp_path, monkeypatch):
    with service_on(tmp_path, {"a": 4, "b": 5}) as service:

        def refuse():
            raise GalleryUnavailableError("the server is down")

        monkeypatch.setattr(service.galleries["a"].store, "info", refuse)
        found = samples(service.metrics.text()[0].decode())
    assert value(found, "rrid_edge_gallery_up", gallery="a") == 0
    assert ("rrid_edge_gallery_rows", ("gallery", "a")) not in found
    assert value(found, "rrid_edge_gallery_rows", gallery="b") == 5


def _ask(app, *, method="GET", path="/", headers=(), send=None):
    """One request to an ASGI application; returns its messages."""
    messages = []

    async def keep(message):
        messages.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "client": ("192.0.2.7", 1)}
    asyncio.run(app(scope, receive, send or keep))
    return messages


def _answering(status, content_type=b"text/plain", before=None):
    async def app(scope, receive, send):
        if before is not None:
            before()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
        await send({"type": "http.response.body", "body": b""})

    return app


def _routes():
    return [route for router in ROUTERS for route in router.routes]


@pytest.mark.parametrize(
    ("status", "content_type", "reason"),
    [
        (413, "multipart/form-data; boundary=x", "too-large"),
        (413, "application/json", "too-large"),
        (415, "text/html", "wrong-type"),
        (408, "multipart/form-data", "too-slow"),
        (422, "multipart/form-data", "unreadable"),
        (429, "MULTIPART/form-data", "queue-full"),
        (504, "image/jpeg", "too-late"),
        (422, "application/json", None),
        (429, "application/json", None),
        (200, "multipart/form-data", None),
    ],
)
def test_refused_uploads_are_counted_by_reason(status, content_type, reason):
    metrics = Metrics()
    app = Traces(_answering(status), metrics, _routes())
    _ask(app, method="POST", headers=[(b"content-type", content_type.encode())])
    found = samples(metrics.text()[0].decode())
    refused = {dict(key[1:])["reason"]: count for key, count in found.items() if key[0].endswith("refused_total")}
    assert refused == ({} if reason is None else {reason: 1})


def test_a_request_that_the_gate_refuses_is_counted_by_its_route():
    metrics = Metrics()
    app = Traces(_answering(401), metrics, _routes())
    for path in ("/metrics", "/", "/anything"):
        _ask(app, path=path)
    found = samples(metrics.text()[0].decode())
    routes = {dict(key[1:])["route"] for key in found if key[0] == "rrid_edge_requests_total"}
    assert routes == {"/metrics", "page", "unknown"}


def test_event_streams_have_no_latency():
    metrics = Metrics()
    _ask(Traces(_answering(200, b"text/event-stream; charset=utf-8"), metrics, _routes()), path="/metrics")
    found = samples(metrics.text()[0].decode())
    assert value(found, "rrid_edge_requests_total", code="200", method="GET", route="/metrics") == 1
    assert not [key for key in found if key[0] == "rrid_edge_request_seconds_count"]


@pytest.mark.parametrize(("error", "code"), [(ValueError, "500"), (asyncio.CancelledError, "499")])
def test_requests_that_end_in_an_error_are_counted(error, code):
    metrics = Metrics()

    def fail():
        raise error

    with pytest.raises(error):
        _ask(Traces(_answering(200, before=fail), metrics, _routes()), path="/healthz")
    found = samples(metrics.text()[0].decode())
    assert value(found, "rrid_edge_requests_total", code=code, method="GET", route="/healthz") == 1
    assert value(found, "rrid_edge_requests_running") == 0


@pytest.mark.parametrize("given", ["abc-1", "a" * 65, "two words", "line\nbreak", ""])
def test_a_request_has_an_id(given):
    seen: list[Any] = []
    app = Traces(_answering(200, before=lambda: seen.append(current_request())), Metrics(), [])
    start = _ask(app, headers=[(b"x-request-id", given.encode())])[0]
    told = dict(start["headers"])[b"x-request-id"].decode()
    assert seen[0].id == told
    assert seen[0].client == "192.0.2.7"
    assert told == given if given == "abc-1" else len(told) == 16 and int(told, 16) >= 0
    assert current_request() is None


def test_the_address_and_id_reach_the_threads(tmp_path):
    with service_on(tmp_path) as service:

        async def app(scope, receive, send):
            request = await service.threads.run(current_request)
            assert request is not None
            assert request.id == "abc"
            await _answering(204)(scope, receive, send)

        (start, _) = _ask(Traces(app, service.metrics, []), headers=[(b"x-request-id", b"abc")])
    assert start["status"] == 204


def test_reading_the_metrics_holds_up_no_event_loop(tmp_path, monkeypatch):
    with service_on(tmp_path) as service, client(service) as http:
        where = []
        real = service.metrics.text

        def text(accept):
            where.append(threading.current_thread().name)
            return real(accept)

        monkeypatch.setattr(service.metrics, "text", text)
        assert http.get("/metrics").status_code == 200
    assert where[0].startswith("work")


def test_two_model_files_of_one_network_share_a_series(tmp_path):
    class OneFileEach(FakeModels):
        """Two galleries of one network, indexed with two files of it, such as fp32 and int8."""

        def choose(self, location, store):
            model = super().choose(location, store).with_name(f"{location.parent.name}.onnx")
            self._specs[model] = store.spec
            return model

    settings = ServeSettings(tuple(str(make_gallery(tmp_path / name, 2)) for name in "ab"))
    with Service(settings, OneFileEach()) as service:
        for worker in service.workers.values():
            worker.wait_until_open(10)
        text, _ = service.metrics.text()
    found = samples(text.decode())  # no series twice
    assert len(service.workers) == 2
    assert sum(name == "rrid_edge_queue_images" for name, *_ in found) == 1
    assert sum(name == "rrid_edge_engine_info" for name, *_ in found) == 2
