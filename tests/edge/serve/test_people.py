"""People over HTTP: lists, names, merges, splits, verdicts, forgetting."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge.serve.support import SPEC, client, make_gallery, problem, service_on
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import create_store, location_of, open_store
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.changing import Editor
from rrid_edge.people.records import KeptQuery

API = "/api/v1"


def around(centre: int, count: int) -> np.ndarray:
    """Descriptors of one made-up person: unit vectors close to one direction."""
    generator = np.random.default_rng(centre)
    direction = np.random.default_rng(1000 + centre).standard_normal(SPEC.dimension)
    found = direction + 0.3 * generator.standard_normal((count, SPEC.dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def served(tmp_path):
    """A service on crops 1 to 12 of three people, four each, in two cameras, and its client."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    with create_store(location_of(folder), SPEC) as store:
        rows = [
            NewRow(None, camera=str(index % 2), time=1_000_000 * index, thumbnail=b"picture %d" % index)
            for index in range(12)
        ]
        store.add(rows, np.concatenate([around(centre, 4) for centre in range(3)]))
    with service_on(tmp_path, {"gallery": 0}) as service, client(service) as asked:
        yield service, asked


def people(asked) -> tuple[dict, dict]:
    """Confirmed and suggested people: name or id, and number of crops."""
    found = asked.get(f"{API}/people").json()
    assert found["computing"] is False
    return (
        {person["name"]: person["crops"] for person in found["people"]},
        {person["id"]: person["crops"] for person in found["suggested"]},
    )


def test_suggested_people_are_named_renamed_and_shown_by_camera(served):
    service, asked = served
    assert people(asked) == ({}, {"s1": 4, "s5": 4, "s9": 4})
    suggested = asked.get(f"{API}/people/s5").json()
    assert (suggested["kind"], suggested["name"], suggested["cameras"]) == ("suggested", None, ["0", "1"])
    assert 0 < suggested["confidence"] <= 1
    named = asked.patch(f"{API}/people/s5", json={"name": " Ann "})
    assert (named.status_code, named.json()["id"], named.json()["name"]) == (200, "p1", "Ann")
    assert people(asked) == ({"Ann": 4}, {"s1": 4, "s9": 4})
    assert asked.patch(f"{API}/people/p1", json={"name": "Anna"}).json()["id"] == "p1"
    shown = asked.get(f"{API}/people/p1").json()
    assert (shown["first"], shown["last"]) == ("1970-01-01T00:00:04.000000Z", "1970-01-01T00:00:07.000000Z")
    assert [(part["camera"], [crop["id"] for crop in part["crops"]]) for part in shown["timeline"]] == [
        ("1", [8, 6]),
        ("0", [7, 5]),
    ]
    assert [crop["id"] for crop in shown["cover"]] == [8, 7, 6, 5]
    assert shown["cover"][0]["person"] == {"id": "p1", "name": "Anna"}
    assert [gallery["people"] for gallery in asked.get(f"{API}/galleries").json()] == [1]
    with open_store(service.galleries["gallery"].location) as store:  # what match and the library see
        assert [row.id for row in store.rows() if row.label == "Anna"] == [5, 6, 7, 8]


def test_a_merge_and_a_split_restore_what_was(served):
    _, asked = served
    for crops, name in (([1, 2], "Ann"), ([5, 6], "Bob")):
        assert asked.post(f"{API}/people", json={"name": name, "crops": crops}).status_code == 201
    merged = asked.post(f"{API}/people/p1/merge", json={"other": "p2"}).json()
    assert (merged["id"], merged["crops"]) == ("p1", 4)
    problem(asked.get(f"{API}/people/p2"), 404, "p2")
    kept = asked.get(f"{API}/people/p1").json()["merges"]
    assert [(one["id"], one["kind"], one["name"], one["crops"]) for one in kept] == [
        (merged["merge"], "merge", "Bob", 2)
    ]
    back = asked.post(f"{API}/people/p1/split", json={"merge": merged["merge"]})
    assert back.status_code == 200
    assert people(asked)[0] == {"Ann": 2, "Bob": 2}
    assert asked.get(f"{API}/people/p2").json()["name"] == "Bob"
    split = asked.post(f"{API}/people/p1/split", json={"crops": [2], "name": "Cem"}).json()
    assert (split["id"], split["name"], split["crops"]) == ("p3", "Cem", 1)
    assert asked.post(f"{API}/people/p1/split", json={"crops": [1]}).json()["crops"] == 0
    problem(asked.get(f"{API}/people/p1"), 404)


def test_suggested_people_are_merged_with_each_other_and_with_confirmed_ones(served):
    _, asked = served
    asked.patch(f"{API}/people/s1", json={"name": "Ann"})
    one = asked.post(f"{API}/people/s5/merge", json={"other": "p1"}).json()
    assert (one["id"], one["crops"]) == ("p1", 8)
    assert asked.post(f"{API}/people/p1/split", json={"merge": one["merge"]}).json()["crops"] == 4
    both = asked.post(f"{API}/people/s9/merge", json={"other": "s5"}).json()
    assert (both["id"], both["crops"], both["merge"]) == ("s5", 8, None)
    assert people(asked) == ({"Ann": 4}, {"s5": 8})


def test_verdicts_join_keep_apart_and_leave_the_questions(served):
    _, asked = served
    asked.post(f"{API}/people", json={"name": "Ann", "crops": [1]})
    asks = asked.get(f"{API}/people/questions").json()["questions"]
    assert all(ask["a"]["id"] != ask["b"]["id"] for ask in asks)

    def judge(first, second, verdict):
        side = {"crop": first} if isinstance(first, int) else {"query": first}
        return asked.post(f"{API}/feedback", json={"query": side, "crop": second, "verdict": verdict})

    told = judge(1, 5, "same")
    assert (told.status_code, told.json()["person"], told.json()["changed"]) == (201, {"id": "p1", "name": "Ann"}, [5])
    assert asked.get(f"{API}/feedback", params={"crop": 5}).json() == {
        "verdicts": [{"crop": 1, "query": None, "verdict": "same"}]
    }
    assert judge(5, 1, "different").json()["changed"] == [5]
    assert people(asked) == ({"Ann": 1}, {"s2": 3, "s5": 4, "s9": 4})
    judge(6, 7, "different")
    groups = [asked.get(f"{API}/people/{name}").json() for name in people(asked)[1]]
    for group in groups:
        ids = {crop["id"] for part in group["timeline"] for crop in part["crops"]}
        assert not {6, 7} <= ids
    asked.post(f"{API}/people", json={"name": "Bob", "crops": [9]})
    problem(judge(1, 9, "same"), 409, "merge them")
    problem(judge(6, 99, "same"), 404, "crop 99")
    problem(judge(6, 6, "same"), 422, "itself")
    problem(judge("q_unknown", 6, "same"), 404, "q_unknown")
    problem(asked.get(f"{API}/feedback"), 422)


def test_a_suggested_group_that_resembles_somebody_asks_and_does_not_join(served):
    _, asked = served
    asked.post(f"{API}/people", json={"name": "Ann", "crops": [1, 2]})
    group = asked.get(f"{API}/people/s3").json()
    assert group["resembles"]["person"] == {"id": "p1", "name": "Ann"}
    assert group["resembles"]["told"] is False
    assert people(asked) == ({"Ann": 2}, {"s3": 2, "s5": 4, "s9": 4})


def test_forgetting_a_person_leaves_nothing_of_her(served):
    service, asked = served
    gallery = service.galleries["gallery"]
    asked.post(f"{API}/people", json={"name": "Annabella", "crops": [1, 2]})
    descriptor = around(7, 1)[0]
    query = gallery.book.keep_query(KeptQuery(descriptor, SPEC.fingerprint, b"picture of a query"))
    asked.post(f"{API}/feedback", json={"query": {"query": query}, "crop": 1, "verdict": "same"})
    answer = asked.delete(f"{API}/people/p1")
    assert answer.json() == {"forgotten": 2, "ids": [1, 2], "left": []}
    problem(asked.get(f"{API}/people/p1"), 404)
    problem(asked.get(f"{API}/crops/1"), 404)
    assert gallery.book.kept_query(query) is None
    secrets = [b"Annabella", descriptor.tobytes(), b"picture of a query", b"picture 0", query.encode()]
    for file in gallery.location.iterdir():
        assert not [secret for secret in secrets if secret in file.read_bytes()], file
    lines = [json.loads(line) for line in (gallery.location / "audit.jsonl").read_text().splitlines()]
    assert [(line["command"], line["ids"]) for line in lines if line["command"] == "forget"] == [("forget", [1, 2])]


def test_what_cannot_be_done_is_one_line(served):
    _, asked = served
    asked.post(f"{API}/people", json={"name": "Ann", "crops": [1]})
    for name in ("p9", "s99", "x1", "p", "p-1", "p1e3", "p9999999999999999999", "s9999999999999999999"):
        problem(asked.get(f"{API}/people/{name}"), 404)
        problem(asked.delete(f"{API}/people/{name}"), 404)
    problem(asked.post(f"{API}/people", json={"name": "ANN", "crops": [2]}), 409, "looks like Ann", "p1")
    problem(asked.post(f"{API}/people", json={"name": "Bob", "crops": [1]}), 409, "crop 1 is Ann already")
    problem(asked.post(f"{API}/people", json={"name": "Bob", "crops": [77]}), 404, "crop 77")
    problem(asked.post(f"{API}/people", json={"name": "a\u0007b", "crops": [2]}), 422, "U+0007")
    problem(asked.post(f"{API}/people/p1/merge", json={"other": "p1"}), 422, "herself")
    problem(asked.post(f"{API}/people/p1/split", json={"merge": 99}), 404, "99")
    problem(asked.post(f"{API}/people/p9999999999999999999/split", json={"merge": 1}), 404)
    problem(asked.post(f"{API}/people/p1/split", json={}), 422)
    problem(asked.post(f"{API}/people/p1/split", json={"crops": [2]}), 404, "crop 2")
    problem(asked.patch(f"{API}/people/s5", json={"name": "Bob", "crops": [1]}), 409, "has changed")


def test_a_gallery_for_reading_only_refuses_changes(tmp_path):
    make_gallery(tmp_path / "gallery", 4)
    with service_on(tmp_path, {"gallery": 4}, read_only=True) as service, client(service) as asked:
        problem(asked.post(f"{API}/people", json={"name": "Ann", "crops": [1]}), 403, "reading only")
        assert asked.get(f"{API}/people").status_code == 200


def test_many_at_once_lose_no_label(served):
    service, asked = served

    def name(crop: int) -> int:
        return asked.post(f"{API}/people", json={"name": f"person {crop}", "crops": [crop]}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(name, range(1, 9))) == {201}
        merges = [(1, 2), (3, 4), (5, 6), (7, 8)]
        ids = {person["name"]: person["id"] for person in asked.get(f"{API}/people").json()["people"]}

        def merge(pair) -> int:
            kept, other = (ids[f"person {number}"] for number in pair)
            return asked.post(f"{API}/people/{kept}/merge", json={"other": other}).status_code

        assert set(pool.map(merge, merges)) == {200}
    assert people(asked)[0] == {f"person {kept}": 2 for kept, _ in merges}
    with PeopleBook.at(service.galleries["gallery"].location) as book:
        assert not book.pending()


def test_events_and_audit_lines_say_who_changed(served, monkeypatch):
    service, asked = served
    published: list = []
    monkeypatch.setattr(service.events, "publish", lambda kind, gallery, data: published.append((kind, gallery, data)))
    asked.post(f"{API}/people", json={"name": "Ann", "crops": [1, 2]})
    asked.post(f"{API}/feedback", json={"query": {"crop": 5}, "crop": 6, "verdict": "unsure"})
    heard = [(gallery, data["people"], data["ids"]) for kind, gallery, data in published if kind == "person-changed"]
    assert heard == [("gallery", ["p1"], [1, 2]), ("gallery", [], [])]
    location = service.galleries["gallery"].location
    lines = [json.loads(line) for line in (location / "audit.jsonl").read_text().splitlines()]
    told = [(line["command"], line["what"], line["ids"], line["actor"]) for line in lines]
    assert told == [("label", "create", [1, 2], "local"), ("feedback", "unsure", [5, 6], "local")]
    assert "Ann" not in (location / "audit.jsonl").read_text()


def test_labels_that_another_process_writes_are_people_at_once(served):
    service, asked = served
    assert people(asked)[0] == {}
    with open_store(service.galleries["gallery"].location, write=True) as store, PeopleBook(None) as book:
        Editor(store, book).create("Zoe", [3])
    assert people(asked) == ({"Zoe": 1}, {"s1": 3, "s5": 4, "s9": 4})
