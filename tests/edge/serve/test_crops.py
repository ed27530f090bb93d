"""Lists of crops against a sorted list of all rows, and single crops."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone

import pytest

from edge.serve.support import SPEC, client, problem, service_on
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import INDEX_FOLDER, create_store, open_store
from support.galleries import vectors

CROPS = "/api/v1/crops"
NOON = int(datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp()) * 1_000_000


@pytest.fixture
def service(tmp_path):
    """A gallery of 25 crops: every fourth without a time, three cameras and no camera."""
    rows = [
        NewRow(
            f"{n:02d}.jpg",
            f"{n:064x}",
            1,
            2,
            camera=(None, "1", "2", "näme")[n % 4],
            person=f"{n % 3:04d}",
            time=None if n % 4 == 3 else NOON + (n * 7 % 25) * 60_000_000,
            frame=n,
            track=f"t{n}",
        )
        for n in range(25)
    ]
    (tmp_path / "gallery").mkdir()
    with create_store(tmp_path / "gallery" / INDEX_FOLDER, SPEC) as store:
        store.add(rows, vectors(25))
    with service_on(tmp_path) as found:
        yield found


@pytest.fixture
def asked(service):
    with client(service) as found:
        yield found


@pytest.fixture
def rows(service):
    return service.gallery(None).store.rows()


def ordered(rows, oldest=False):
    sign = 1 if oldest else -1
    return [row.id for row in sorted(rows, key=lambda row: (row.time is None, sign * (row.time or 0), sign * row.id))]


def listed(asked, **params):
    """Ids of all pages, and their totals."""
    ids, totals = [], set()
    while True:
        answer = asked.get(CROPS, params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [crop["id"] for crop in page["crops"]]
        totals.add(page["total"])
        if page["next"] is None:
            return ids, totals
        assert len(page["crops"]) == params.get("limit", 50)
        params["cursor"] = page["next"]


@pytest.mark.parametrize("limit", [1, 4, 25, 200])
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_are_the_sorted_list(asked, rows, order, limit):
    assert listed(asked, order=order, limit=limit) == (ordered(rows, order == "oldest"), {25})


def test_filters(asked, rows):
    def expected(passes):
        passing = [row for row in rows if passes(row)]
        return ordered(passing), {len(passing)}

    assert listed(asked, limit=3, camera="1") == expected(lambda row: row.camera == "1")
    assert listed(asked, limit=3, camera=["1", "näme"]) == expected(lambda row: row.camera in ("1", "näme"))
    assert listed(asked, camera="none") == ([], {0})
    first, last = NOON + 5 * 60_000_000, NOON + 15 * 60_000_000
    within = expected(lambda row: row.time is not None and first <= row.time <= last)
    assert listed(asked, limit=3, since="2026-11-26T12:05Z", until="2026-11-26T13:15:00+01:00") == within
    assert listed(asked, until="2026-11-26") == expected(lambda row: row.time is not None)
    assert listed(asked, since="2026-11-27") == ([], {0})


def test_a_crop_in_full(asked, rows):
    row = next(row for row in rows if row.camera == "2")
    answer = asked.get(f"{CROPS}/{row.id}").json()
    assert answer == {
        "id": row.id, "gallery": "gallery", "path": row.path, "source": "local", "camera": "2",
        "time": datetime.fromtimestamp(row.time / 1e6, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
        "frame": row.frame, "track": row.track, "told": row.person, "person": None,
        "thumbnail": f"/api/v1/crops/{row.id}/image?size=thumb&gallery=gallery",
        "image": f"/api/v1/crops/{row.id}/image?size=full&gallery=gallery",
    }  # fmt: skip
    assert answer in asked.get(CROPS).json()["crops"]


def test_a_confirmed_person_is_named(service, asked, rows):
    with service.gallery(None).writing() as store:
        store.update([dataclasses.replace(rows[0], label="Ann")])
    person = asked.get(f"{CROPS}/{rows[0].id}").json()["person"]
    assert person["name"] == "Ann"
    assert person["id"].startswith("p")


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0}, {"limit": 201}, {"limit": "x"}, {"order": "random"}, {"cursor": "n.1"}, {"cursor": "o.1.1"},
        {"cursor": "n.x.-1"}, {"cursor": "n.1.1\n"}, {"cursor": "n." + "9" * 30 + ".1"}, {"since": "yesterday"},
        {"until": "-"}, {"cursor": ""},
    ],
)  # fmt: skip
def test_refuses_odd_requests_in_one_line(asked, params):
    answer = asked.get(CROPS, params=params)
    assert answer.status_code == 422, answer.text
    assert "\n" not in answer.text


def test_times_beyond_the_calendar_and_odd_names(tmp_path):
    (tmp_path / "gallery").mkdir()
    with create_store(tmp_path / "gallery" / INDEX_FOLDER, SPEC) as store:
        store.add([NewRow("a\udcff.jpg", "a" * 64, 1, 2, camera="\udcfe", time=2**61)], vectors(1))
    with service_on(tmp_path) as service, client(service) as asked:
        (crop,) = asked.get(CROPS).json()["crops"]
        assert crop["time"] == f"{2**61}us"
        assert crop["path"] == "a\uefff.jpg"
        assert [one["id"] for one in asked.get(CROPS, params={"camera": crop["camera"]}).json()["crops"]] == [1]


def test_pages_stay_in_step_while_others_write(service, asked, rows):
    expected, found, cursor = ordered(rows), [], None
    with open_store(service.gallery(None).location, write=True) as other:
        for step in range(10):
            page = asked.get(CROPS, params={"limit": 4} | ({"cursor": cursor} if cursor else {})).json()
            found += [crop["id"] for crop in page["crops"]]
            cursor = page["next"]
            if cursor is None:
                break
            other.add([NewRow(None, time=NOON * 2 + step)], vectors(1, seed=step))
            other.remove([found[0]])
    assert found == expected


def test_a_crop_that_is_gone(asked):
    problem(asked.get(f"{CROPS}/999"), 404, "crop 999 is not in the gallery gallery")
