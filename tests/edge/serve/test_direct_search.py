"""Searches take a way past the framework: they answer, and refuse, as they do through it."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from edge.serve.support import client, crop_files, make_gallery, service_on

SEARCH = "/api/v1/search"
ANSWERED = (
    "", "top_k=3", "top_k=03", "gallery=a&top_k=2", "camera=1&camera=2", "camera=1&camera=1", "exclude_camera=1",
    "min_score=0.1", "min_score=-1", "rerank=true&top_k=2", "rerank=no", "rerank=1", "since=2026-01-01", "until=30m",
    "since=3&until=9", "since=3&until=2026-01-01", "camera=%00", "top_k=%33", "camera=%C3%A9", "gallery=a&camera=",
)  # fmt: skip
REFUSED = (
    "top_k=0", "top_k=101", "top_k=x", "top_k=", "top_k=1&top_k=2", "gallery=b", "gallery=a&gallery=a", "min_score=2",
    "min_score=nan", "fpr=1", "fpr=0.5", "fpr=0.5&fpir=0.5", "rerank=maybe", "since=soon",
    "unknown=1", "topk=3", f"camera={'x' * 256}", "&".join(["camera=1"] * 101), f"since={'1' * 65}",
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    make_gallery(folder / "a", 30)
    with service_on(folder, {"a": 30}) as service, client(service) as asked:
        yield asked, crop_files(folder / "a")


def through_the_framework(*_args):
    """As :meth:`_Parameters.read` answers to what it cannot read."""
    return


def plain(answer):
    """An answer without what differs by design: times and the id of the kept query."""
    found = answer.json()
    for name in ("milliseconds", "query"):
        found.pop(name, None)
    headers = {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "content-length")}
    return answer.status_code, headers, found


@pytest.mark.parametrize("query", [*ANSWERED, *REFUSED])
def test_both_ways_give_the_same_answer(asked, query, monkeypatch):
    client, files = asked
    direct = plain(client.post(f"{SEARCH}?{query}", files=files))
    monkeypatch.setattr("rrid_edge.serve.direct_search._Parameters.read", through_the_framework)
    assert direct == plain(client.post(f"{SEARCH}?{query}", files=files))
    assert (direct[0] == 200) == (query in ANSWERED)


@pytest.mark.parametrize("body", [{"json": {"crop": 1}}, {"json": {"crop": 0}}, {"content": b"x"}, {}])
def test_both_ways_read_bodies_alike(asked, body, monkeypatch):
    client, _ = asked
    direct = plain(client.post(SEARCH, **body))
    monkeypatch.setattr("rrid_edge.serve.direct_search._Parameters.read", through_the_framework)
    assert direct == plain(client.post(SEARCH, **body))


def test_a_search_needs_no_route_of_the_framework_and_has_the_name_of_its_route(asked, monkeypatch):
    client, files = asked

    async def unreachable(*_args):
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(APIRoute, "handle", unreachable)
        assert client.post(f"{SEARCH}?top_k=1", files=files).status_code == 200
    counted = 'rrid_edge_requests_total{code="200",method="POST",route="/api/v1/search"}'
    assert counted in client.get("/metrics").text


def test_an_unknown_sender_goes_the_long_way_and_is_refused(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"read {'r' * 40} hall\n")
    tokens.chmod(0o600)
    make_gallery(tmp_path / "a", 4)
    files = crop_files(tmp_path / "a")
    with service_on(tmp_path, {"a": 4}, token_file=tokens) as service, client(service) as asked:
        assert asked.post(SEARCH, files=files).status_code == 401
        known = asked.post(SEARCH, files=files, headers={"Authorization": f"Bearer {'r' * 40}"})
        assert known.status_code == 200
