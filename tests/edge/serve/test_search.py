"""Tests of ``POST /search`` and ``/embed``: against slow rankings, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from edge.serve.support import SPEC, FakeModels, client, crop_files, indexed, make_gallery, problem, service_on
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import create_store, location_of, open_store, remove_store
from rrid_edge.ranking.descriptors import block_shares
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from support.galleries import plain
from support.pictures import noise
from support.slow_separation import slow_separation

SEARCH = "/api/v1/search"
OTHER = fake_spec("another network", block_width=4)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def ids_of(answer):
    return [match["id"] for match in answer["matches"]]


def scores_of(answer):
    return [match["score"] for match in answer["matches"]]


def small(content: bytes) -> np.ndarray:
    """The pixels of a picture as Pillow alone makes them for the engine."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((SPEC.width_px, SPEC.height_px), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A gallery of 24 crops and two rows without files."""
    folder = make_gallery(tmp_path_factory.mktemp("served") / "g", 24)
    vectors = np.random.default_rng(5).standard_normal((2, SPEC.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with open_store(location_of(folder), write=True) as store:
        store.add([NewRow(None, camera="9", time=1_000_000), NewRow(None, label="Ann")], vectors)
    return folder


@pytest.fixture(scope="module")
def asked(gallery):
    with service_on(gallery.parent, {gallery.name: 24}) as service, client(service) as found:
        yield found


@pytest.fixture(scope="module")
def stored(gallery):
    """All rows and their descriptors in float64."""
    with open_store(location_of(gallery)) as store:
        rows = store.rows()
        return rows, store.vectors(rows).astype(np.float64)


def slow(stored, query, top_k, without=()):
    """Ids and scores by plain products, best first."""
    rows, vectors = stored
    scored = [
        (-float(vector @ query), os.fsencode(row.path or ""), row.id)
        for row, vector in zip(rows, vectors, strict=True)
        if row.id not in without
    ]
    return [(id_, -score) for score, _, id_ in sorted(scored)[:top_k]]


def test_a_crop_finds_its_like_and_never_itself(asked, stored):
    rows, vectors = stored
    for row, vector in list(zip(rows, vectors, strict=True))[::5]:
        answer = asked.post(SEARCH, json={"crop": row.id}, params={"top_k": 30}).json()
        expected = slow(stored, vector / np.linalg.norm(vector), 30, without={row.id})
        assert ids_of(answer) == [id_ for id_, _ in expected]
        assert [match["score"] for match in answer["matches"]] == pytest.approx(
            [score for _, score in expected], abs=1e-6
        )
        assert answer["query"] == {
            "id": None, "crop": row.id, "images": 1,
            "thumbnail": f"/api/v1/crops/{row.id}/image?size=thumb&gallery=g",
        }  # fmt: skip
        assert answer["searched"] == 25


def test_the_digits_of_an_id_are_an_id(asked, stored):
    """Ids of a gallery on a server have 63 bits, which a number of JavaScript does not hold."""
    row = stored[0][0]
    assert ids_of(asked.post(SEARCH, json={"crop": str(row.id)}).json()) == ids_of(
        asked.post(SEARCH, json={"crop": row.id}).json()
    )
    for wrong in ("1x", "1.0", "-1", "", "9" * 30):
        assert asked.post(SEARCH, json={"crop": wrong}).status_code == 422


def test_a_row_without_a_file_is_a_query_too(asked, stored):
    rows, vectors = stored
    row, vector = next((row, vector) for row, vector in zip(rows, vectors, strict=True) if row.path is None)
    answer = asked.post(SEARCH, json={"crop": row.id}).json()
    assert ids_of(answer) == [id_ for id_, _ in slow(stored, vector / np.linalg.norm(vector), 8, without={row.id})]
    assert answer["searched"] == 25


def test_what_carried_a_match_is_measured_against_other_people(asked, stored):
    rows, vectors = stored
    row, vector = rows[3], vectors[3]
    query = (vector / np.linalg.norm(vector)).astype(np.float32)
    distances = np.sqrt(np.square(query - vectors).reshape(len(rows), len(SPEC.blocks), -1).sum(axis=2))
    by_id = {row.id: place for place, row in enumerate(rows)}
    # Nobody is labelled here, so the best quarter of 26 crops may show the person: 6.
    others = distances[np.argsort(vectors @ query)[:-6]]
    answer = asked.post(SEARCH, json={"crop": row.id}).json()
    assert answer["others"] == len(others) == 20
    for match in answer["matches"]:
        assert [block["name"] for block in match["blocks"]] == list(SPEC.blocks)
        place = by_id[match["id"]]
        shares = block_shares(query, vectors[place].astype(np.float32), len(SPEC.blocks))
        for index, block in enumerate(match["blocks"]):
            usual, spread = others[:, index].mean(), others[:, index].std()
            assert block["share"] == pytest.approx(shares[index], abs=1e-6)
            assert block["usual"] == pytest.approx(usual, abs=1e-6)
            assert block["spread"] == pytest.approx(spread, rel=1e-4)
            assert block["contrast"] == pytest.approx((usual - distances[place, index]) / spread, rel=1e-3, abs=1e-3)
        assert sum(block["share"] for block in match["blocks"]) == pytest.approx(match["score"], abs=1e-6)
    first, second = answer["matches"][:2]
    blocks = [(block["name"], block["usual"], block["spread"]) for block in first["blocks"]]
    ranked = [vectors[by_id[match["id"]]] for match in (first, second)]
    found = slow_separation(query, ranked[0], ranked[1], blocks)
    if found is None:
        assert answer["separation"] is None
    else:
        place = SPEC.blocks.index(found[0])
        expected = {"block": found[0], "region": first["blocks"][place]["region"], "clear": found[2]}
        assert answer["separation"] == {**expected, "difference": pytest.approx(found[1], rel=1e-3)}


def test_an_uploaded_query_is_kept_and_can_be_searched_again(asked, gallery):
    first = asked.post(SEARCH, files=crop_files(gallery, 2), params={"top_k": 5}).json()
    name = first["query"]["id"]
    assert name.startswith("q_")
    again = asked.post(SEARCH, json={"query": name}, params={"top_k": 5}).json()
    assert again["query"] == first["query"]
    assert ids_of(again) == ids_of(first)
    assert scores_of(again) == pytest.approx(scores_of(first), abs=1e-6)
    picture = asked.get(first["query"]["thumbnail"])
    assert picture.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(picture.content)) as image:
        assert max(image.size) == 96
    problem(asked.post(SEARCH, json={"query": "q_unknown"}), 404, "kept for a day")
    problem(asked.get("/api/v1/queries/q_unknown/image"), 404, "kept for a day")


def test_times_are_told_and_filters_narrow(asked):
    found = asked.post(SEARCH, json={"crop": 1}, params={"since": "1970-01-01T00:00:01Z", "until": "1970-01-02"}).json()
    assert [(match["camera"], match["time"], match["path"]) for match in found["matches"]] == [
        ("9", "1970-01-01T00:00:01.000000Z", None)
    ]
    nothing = asked.post(SEARCH, json={"crop": 1}, params={"camera": "garage"}).json()
    assert nothing["matches"] == []
    assert "no crop passes the filters" in nothing["warnings"][0]
    labelled = asked.post(SEARCH, json={"crop": 1}, params={"top_k": 30}).json()["matches"]
    assert [match["person"]["name"] for match in labelled if match["person"]] == ["Ann"]


def test_where_the_time_went_is_told(asked, gallery):
    spent = asked.post(SEARCH, files=crop_files(gallery)).json()["milliseconds"]
    assert set(spent) == {"waiting", "decoding", "embedding", "searching", "total"}
    assert all(value >= 0 for value in spent.values())
    assert spent["total"] >= spent["decoding"] + spent["embedding"] + spent["searching"] - 1


def test_doubts_about_a_picture_are_told(asked):
    wide = png(noise(3, 40, 90))
    answer = asked.post(SEARCH, files=[("images", ("../../etc/wide.png", wide))]).json()
    assert any(line.startswith("wide.png: 90 x 40 pixels, wider than tall") for line in answer["warnings"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "expected crop, query, or descriptor"), (b"{", "expected crop"), (b"[]", "expected crop"),
        (b"{}", "gives none"), (b'{"crop": 1, "query": "q_a"}', "gives crop, query"),
        (b'{"crop": "one"}', "crop"), (b'{"crop": -1}', "crop"), (b'{"crop": 1e300}', "crop"),
        (b'{"crop": 99999999999999999999999}', "crop"), (b'{"crop": true}', "crop"),
        (b'{"descriptor": [1.0]}', "gives descriptor"), (b'{"fingerprint": "a"}', "gives fingerprint"),
        (b'{"other": 1}', "other"), (b'{"query": "' + b"a" * 300 + b'"}', "query"),
        (b"[" * 100_000, "expected crop"), (b'{"descriptor": ' + b"[" * 100_000, "expected crop"),
        (b"\xff\xfe", "expected crop"), (b'{"query": "\\ud800"}', "expected crop"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else None,
)  # fmt: skip
def test_other_bodies_are_refused_in_one_line(asked, body, words):
    problem(asked.post(SEARCH, content=body, headers={"content-type": "application/json"}), 422, words)


def test_descriptors_of_other_models_and_shapes_are_refused(asked):
    own = SPEC.fingerprint
    unit = [1.0] + [0.0] * (SPEC.dimension - 1)
    assert asked.post(SEARCH, json={"descriptor": unit, "fingerprint": own}).status_code == 200
    problem(asked.post(SEARCH, json={"descriptor": unit, "fingerprint": "0" * 64}), 409, "model 000000000000")
    problem(asked.post(SEARCH, json={"descriptor": unit[1:], "fingerprint": own}), 422, "shape")
    problem(asked.post(SEARCH, json={"descriptor": [2 * value for value in unit], "fingerprint": own}), 422, "length")
    odd = json.dumps({"descriptor": [float("nan"), *unit[1:]], "fingerprint": own})
    problem(asked.post(SEARCH, content=odd, headers={"content-type": "application/json"}), 422)


def test_unknown_crops_are_not_found(asked):
    problem(asked.post(SEARCH, json={"crop": 12345}), 404, "crop 12345 is not in the gallery g")
    problem(asked.post(SEARCH, json={"crop": 2**63 - 1}), 404)


@pytest.mark.parametrize(
    "choices",
    [
        {"top_k": 0}, {"top_k": 101}, {"top_k": "x"}, {"min_score": 2}, {"min_score": "nan"}, {"fpr": 0}, {"fpr": 1},
        {"fpir": "inf"}, {"since": "yesterday"}, {"until": "2026-13-01"}, {"rerank": "perhaps"},
        {"min_score": 0.1, "fpr": 0.1}, {"fpr": 0.001}, {"fpir": 0.1}, {"camera": "a" * 300}, {"since": "1" * 65},
    ],
    ids=str,
)  # fmt: skip
def test_choices_out_of_range_are_refused(asked, choices):
    problem(asked.post(SEARCH, json={"crop": 1}, params=choices), 422)


def test_too_few_crops_to_rerank_are_refused_as_by_match(asked):
    problem(asked.post(SEARCH, json={"crop": 1}, params={"rerank": True, "camera": "1"}), 422, "re-ranking needs")


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ([("images", ("a.jpg", b"no picture"))], 422, "a.jpg"),
        ([("images", ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"))], 422, "a.svg"),
        ([("images", ("", b""))], 422, "expected"),
        ([("images", ("a.jpg", b""))], 422, "a.jpg"),
        ([("pictures", ("a.jpg", b"x"))], 422, "'pictures'"),
        ([("images", (None, b"text"))], 422, "'images'"),
        ([("images", (f"{number}.jpg", b"x")) for number in range(9)], 422, "more than 8"),
    ],
    ids=["text", "svg", "nameless", "empty", "field", "no-file", "nine"],
)
def test_other_files_are_refused_in_one_line(asked, files, status, words):
    for path in (SEARCH, "/api/v1/embed"):
        problem(asked.post(path, files=files), status, words)


def test_a_form_without_files_and_broken_forms_are_refused(asked):
    form = {"content-type": "multipart/form-data; boundary=x"}
    problem(asked.post(SEARCH, content=b"--x--\r\n", headers=form), 422, "no files")
    problem(asked.post(SEARCH, content=b"nonsense", headers=form), 400)
    problem(asked.post(SEARCH, content=b"--x--", headers={"content-type": "multipart/form-data"}), 400)
    problem(asked.post(SEARCH, content=b"a=b", headers={"content-type": "application/x-www-form-urlencoded"}), 415)
    problem(asked.post("/api/v1/embed", json={"crop": 1}), 415, "multipart/form-data")


def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(gallery):
    large = png(Image.new("RGB", (400, 300)))
    with service_on(gallery.parent, {"g": 24}, most_pixels=100_000) as service, client(service) as asked:
        answer = asked.post(SEARCH, files=[("images", ("large.png", large))])
        problem(answer, 422, "large.png: 400 x 300 pixels; at most 100,000 are read")


def test_embed_answers_json_and_npy(asked, gallery):
    files = crop_files(gallery, 3)
    answer = asked.post("/api/v1/embed", files=files)
    found = answer.json()
    assert answer.headers["x-model-fingerprint"] == found["fingerprint"] == SPEC.fingerprint
    assert found["dimension"] == SPEC.dimension
    npy = asked.post("/api/v1/embed", files=files, headers={"accept": "application/x-npy"})
    assert npy.headers["content-type"] == "application/x-npy"
    assert npy.headers["x-model-fingerprint"] == SPEC.fingerprint
    read = np.load(io.BytesIO(npy.content), allow_pickle=False)
    np.testing.assert_array_equal(read, np.array(found["descriptors"], np.float32))
    with FakeEngine(SPEC) as engine:
        images = np.stack([small(content) for _, (_, content, _) in files])
        np.testing.assert_allclose(read, engine.run(images), atol=1e-6)


def test_galleries_of_two_models_never_mix(tmp_path):
    make_gallery(tmp_path / "a", 10)
    make_gallery(tmp_path / "b", 10, OTHER)
    with service_on(tmp_path, {"a": 10, "b": 10}) as service, client(service) as asked:
        assert len(service.workers) == 2
        problem(asked.post(SEARCH, json={"crop": 1}), 422, "name one of a, b")
        problem(asked.post(SEARCH, json={"crop": 1}, params={"gallery": "c"}), 404, "c is not served")
        for name, spec in (("a", SPEC), ("b", OTHER)):
            embedded = asked.post("/api/v1/embed", files=crop_files(tmp_path / name), params={"gallery": name}).json()
            assert embedded["fingerprint"] == spec.fingerprint
            with FakeEngine(spec) as engine:
                pixels = small(crop_files(tmp_path / name)[0][1][1])
                np.testing.assert_allclose(embedded["descriptors"], engine.run(pixels[None]), atol=1e-6)
            other = "b" if name == "a" else "a"
            body = {"descriptor": embedded["descriptors"][0], "fingerprint": embedded["fingerprint"]}
            assert asked.post(SEARCH, json=body, params={"gallery": name}).status_code == 200
            problem(asked.post(SEARCH, json=body, params={"gallery": other}), 409, "expected a query of the gallery's")
            kept = asked.post(SEARCH, files=crop_files(tmp_path / name), params={"gallery": name}).json()["query"]["id"]
            problem(asked.post(SEARCH, json={"query": kept}, params={"gallery": other}), 404)


def test_an_empty_gallery_answers_that_it_has_no_crops(tmp_path):
    with create_store(location_of(tmp_path / "empty"), SPEC):
        pass
    with service_on(tmp_path, {"empty": 0}) as service, client(service) as asked:
        answer = asked.post(SEARCH, files=[("images", ("a.png", png(noise(1))))]).json()
    assert answer["matches"] == []
    assert "the gallery has no crops" in answer["warnings"]


def test_file_names_that_are_no_text_are_told_as_text(tmp_path):
    folder = make_gallery(tmp_path / "g", 4)
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(sorted(folder.glob("*.jpg"))[0], folder / name)
    indexed(folder)
    with service_on(tmp_path, {"g": 4}) as service, client(service) as asked:
        answer = asked.post(SEARCH, files=crop_files(folder)).json()
    assert "caf\uefe9.jpg" in [match["path"] for match in answer["matches"]]


def test_forgotten_crops_leave_the_sample(tmp_path):
    folder = make_gallery(tmp_path / "g", 12)
    with service_on(tmp_path, {"g": 12}) as service, client(service) as asked:
        before = asked.post(SEARCH, json={"crop": 1}).json()
        sample = service.gallery("g").sample
        assert vars(sample)["_sample"] is not None
        with open_store(location_of(folder), write=True) as store:
            store.forget([2, 3, 4, 5, 6])
        service.drop_caches()
        assert vars(sample)["_sample"] is None
        after = asked.post(SEARCH, json={"crop": 1}).json()
        usual = [[block["usual"] for block in answer["matches"][0]["blocks"]] for answer in (before, after)]
        assert before["others"] >= 8 > after["others"]
        assert usual[1] == [None] * len(SPEC.blocks)
        assert usual[0] != usual[1]


def test_a_gallery_in_milvus_is_served(tmp_path, lite_file):
    folder = make_gallery(tmp_path / "g", 16)
    address = f"milvus+file:{lite_file}/searched"
    with open_store(location_of(folder)) as local, create_store(location_of(address), SPEC) as store:
        found = sorted(local.rows(), key=lambda row: row.id)
        store.add(plain(found), local.vectors(found))
        store.add([NewRow(None, camera="9")], local.vectors(found[:1]))
    models = FakeModels()
    with Service(ServeSettings((address, str(folder))), models) as service, client(service) as asked:
        files = crop_files(folder)
        on_server = asked.post(SEARCH, files=files, params={"gallery": "searched", "top_k": 30}).json()
        in_folder = asked.post(SEARCH, files=files, params={"gallery": "g", "top_k": 30}).json()
        assert [match["path"] for match in on_server["matches"] if match["path"]] == [
            match["path"] for match in in_folder["matches"]
        ]
        scores = {match["path"]: match["score"] for match in on_server["matches"]}
        assert [scores[match["path"]] for match in in_folder["matches"]] == pytest.approx(
            scores_of(in_folder), abs=1e-6
        )
        assert all(block["contrast"] is not None for block in on_server["matches"][0]["blocks"])
        for match in (on_server["matches"][0], next(one for one in on_server["matches"] if one["path"] is None)):
            answer = asked.post(SEARCH, json={"crop": match["id"]}, params={"gallery": "searched", "top_k": 30}).json()
            assert len(answer["matches"]) == 16
            assert match["id"] not in ids_of(answer)
        facts = asked.get("/api/v1/galleries").json()[0]
        assert (facts["name"], facts["rows"], facts["cameras"][-1]) == ("searched", 17, {"name": "9", "crops": 1})
        with service.gallery("searched").writing() as store:
            assert store.remove([on_server["matches"][0]["id"]]) == 1


def test_an_index_that_is_removed_or_rebuilt_beneath(tmp_path):
    folder = make_gallery(tmp_path / "g", 6)
    with service_on(tmp_path, {"g": 6}) as service, client(service) as asked:
        assert len(asked.post(SEARCH, json={"crop": 1}).json()["matches"]) == 5
        remove_store(location_of(folder))
        problem(asked.post(SEARCH, json={"crop": 1}), 503)
        problem(asked.post(SEARCH, files=crop_files(folder)), 503)
        for path in sorted(folder.glob("*.jpg"))[:2]:
            path.unlink()
        indexed(folder)
        assert len(asked.post(SEARCH, files=crop_files(folder)).json()["matches"]) == 4
        remove_store(location_of(folder))
        indexed(folder, OTHER)
        problem(asked.post(SEARCH, files=crop_files(folder)), 503, "another model")
