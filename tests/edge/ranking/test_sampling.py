"""Samples that can measure retrieval: chosen people, distractors, junk, and what the labels allow."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import pytest

from rrid_edge.crops.naming import read_labels
from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import CROPS_EACH, PeopleSample, has_answer, sample_people, spread_people

UNKNOWN = Labels.of([-1] * 9, [-1] * 9)
SIZES = [
    # two-camera people, most crops per person and camera, one-camera people, distractors, junk
    (0, 1, 0, 0, 0),
    (1, 1, 0, 0, 0),
    (1, 9, 1, 0, 3),
    (3, 1, 0, 0, 0),
    (5, 1, 0, 1, 2),
    (12, 4, 5, 9, 7),
    (20, 1, 0, 0, 0),
    (40, 3, 0, 60, 30),
    (9, 30, 3, 0, 0),
    (0, 3, 12, 4, 5),
]


def labels_of(shape: tuple[int, ...], seed: int) -> Labels:
    """Shuffled labels of a made-up gallery."""
    people, most, alone, distractors, junk = shape
    random = np.random.default_rng(seed)
    pairs = [(0, int(random.integers(1, 7))) for _ in range(distractors)]
    pairs += [(-1, int(random.integers(1, 7))) for _ in range(junk)]
    for person in range(1, people + 1):
        cameras = random.choice(6, size=int(random.integers(2, 5)), replace=False) + 1
        pairs += [(person, int(camera)) for camera in cameras for _ in range(int(random.integers(1, most + 1)))]
    for person in range(1000, 1000 + alone):
        pairs += [(person, 3)] * int(random.integers(1, most + 1))
    random.shuffle(pairs)
    return Labels.of([person for person, _ in pairs], [camera for _, camera in pairs])


def queries_of(pairs):
    """The slow, obvious count: crops of a person who has another crop in another camera."""
    return [
        index
        for index, (person, camera) in enumerate(pairs)
        if person > 0 and camera >= 0 and any(p == person and 0 <= c != camera for p, c in pairs)
    ]


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: "-".join(map(str, shape)))
def test_samples_keep_their_rules(shape):
    for seed in range(3):
        labels = labels_of(shape, seed)
        pairs = list(zip(labels.persons.tolist(), labels.cameras.tolist(), strict=True))
        answered = set(queries_of(pairs))
        usable = [index for index, (person, _) in enumerate(pairs) if person >= 0]
        for count in (1, 2, 3, 7, 16, 31, 64, 1000):
            sample = sample_people(labels, count, seed=seed)
            rows = sample.rows.tolist()
            assert rows == sorted(set(rows))
            chosen = [pairs[row] for row in rows]
            queries = queries_of(chosen)
            assert (sample.queries, len({chosen[index][0] for index in queries})) == (len(queries), sample.people)
            if not answered:
                taken = min(count, len(pairs))
                assert rows == [index * len(pairs) // taken for index in range(taken)]
                assert "cannot be measured" in sample.describe()
                continue
            assert len(rows) == min(count, len(usable))
            assert set(rows) <= set(usable)
            assert sample.left_out_junk == len(pairs) - len(usable)
            assert sample.distractors == len(rows) - len(queries)
            if count > 1:
                assert queries
            strangers = len(usable) - len(answered)
            wanted = min(int(count * 0.2), strangers, max(count - 2, 0))
            if wanted + len(answered) >= count and strangers > wanted:
                assert wanted <= sample.distractors <= wanted + 1
            _check_people(rows, pairs, answered, count)


def _check_people(rows, pairs, answered, count):
    """One person at most is cut below the share of a person; nobody is left with one camera if that can be avoided."""
    total, given = defaultdict(list), defaultdict(list)
    for row in answered:
        total[pairs[row][0]].append(row)
    for row in set(rows) & answered:
        given[pairs[row][0]].append(row)
    alone = [person for person, taken in given.items() if len({pairs[row][1] for row in taken}) < 2]
    others = [len(taken) for person, taken in given.items() if person not in alone]
    # One crop is left over only where all others are exactly two, and no distractor is free.
    free = set(range(len(pairs))) - set(rows) - answered - {row for row, pair in enumerate(pairs) if pair[0] < 0}
    assert not alone or (len(alone) == 1 and max(others, default=2) == 2 and not free)
    # One person is cut to fit; another one may give up one crop, so that nobody is left with one.
    cut = [len(taken) for person, taken in given.items() if len(taken) < len(total[person]) - 1]
    large = max(int(sum(map(len, given.values())) / 4), 2)
    assert sum(size < large - 1 for size in cut) <= 1


def test_a_sample_takes_whole_people_and_a_share_of_distractors():
    names = [f"{person:04d}_c{camera}s1_{shot:06d}_01.jpg" for person in range(1, 61) for camera in (1, 2, 5)
             for shot in range(5)]  # fmt: skip
    names += [f"0000_c{1 + index % 6}s1_{index:06d}_00.jpg" for index in range(150)]
    names += [f"-1_c{1 + index % 6}s1_{index:06d}_00.jpg" for index in range(77)]
    labels = Labels(*read_labels(names))
    sample = sample_people(labels, 500)
    persons = labels.persons[sample.rows]
    sizes = np.unique(persons[persons > 0], return_counts=True)[1]
    assert sorted(set(sizes.tolist())) == [10, 15]  # 26 people of 15 crops and one cut to 10
    assert np.count_nonzero(persons == 0) == 100
    assert (
        sample.describe()
        == "500 crops of 27 people in 6 cameras, 400 queries, 100 distractors (20 %); left out: 77 junk or unlabelled"
    )
    assert sample.to_dict() == {
        "crops": 500,
        "people": 27,
        "cameras": 6,
        "queries": 400,
        "distractors": 100,
        "left_out_junk": 77,
        "labelled": True,
        "description": sample.describe(),
    }
    assert sample_people(labels, 5000).describe() == (
        "1,050 crops of 60 people in 6 cameras, 900 queries, 150 distractors (14 %); left out: 77 junk or unlabelled"
    )
    assert sample_people(labels, 100, distractor_share=0.5).distractors == 50
    assert sample_people(labels, 100, distractor_share=0).distractors == 0


def test_the_seed_chooses_the_people_and_a_larger_sample_keeps_them():
    labels = labels_of((200, 3, 20, 100, 50), seed=0)
    people = [
        set(labels.persons[sample_people(labels, count, seed=seed).rows].tolist())
        for count, seed in ((100, 4), (100, 4), (100, 5), (400, 4))
    ]
    assert people[0] == people[1] != people[2]
    large = people[3]
    lost = {person for person in people[0] - large if 0 < person < 1000}
    assert len(lost) <= 1  # the last person of the smaller sample can be one that the fit of the larger one cuts
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = sample_people(labels[order], 100, seed=4)
    kept = set(labels.persons[order][shuffled.rows].tolist())
    assert {person for person in kept ^ people[0] if 0 < person < 1000} == set()  # the order of files is no matter


def test_a_sample_is_the_same_on_every_machine():
    labels = Labels.of([1, 1, 2, 2, 3, 3, 4, 4, 0, 0], [1, 2] * 5)
    assert [sample_people(labels, 5, seed=seed).rows.tolist() for seed in (0, 1, 2**63)] == [
        [0, 1, 6, 7, 9],
        [0, 1, 4, 5, 9],
        [4, 5, 6, 7, 8],
    ]


def test_people_of_long_videos_do_not_fill_a_sample():
    labels = Labels.of(np.repeat([1, 2, 3, 4, 5, 6], 1000), np.tile([1, 2], 3000))
    sample = sample_people(labels, 200)
    assert np.unique(labels.persons[sample.rows], return_counts=True)[1].tolist() == [50] * 4
    persons, cameras = labels.persons[sample.rows], labels.cameras[sample.rows]
    assert {np.count_nonzero((persons == person) & (cameras == 1)) for person in set(persons)} == {25}
    assert np.ptp(sample.rows[persons == persons[0]]) > 800  # not the first frames only
    one = labels[labels.persons == 3]
    assert sample_people(one, 200).describe() == "200 crops of 1 person in 2 cameras, 200 queries, 0 distractors"


@pytest.mark.parametrize(
    ("persons", "cameras", "reason"),
    [
        ([-1] * 9, [-1] * 9, "no crop has a known person and camera"),
        ([1, 2, 3, 1, 2, 3, 1, 2, 3], [-1] * 9, "no crop has a known person and camera"),
        ([1, 1, 1, 2, 2, 2, 0, -1, -1], [4] * 9, "all labelled crops are of one camera"),
        ([1, 2, 3, 4, 5, 0, 0, -1, -1], [1, 2, 3, 4, 5, 1, 2, 1, 2], "nobody is in two cameras"),
        ([0] * 9, [1, 2, 3] * 3, "nobody is in two cameras"),
    ],
    ids=["unknown", "no camera", "one camera", "nobody twice", "distractors"],
)
def test_labels_that_allow_no_query_are_named_with_a_remedy(persons, cameras, reason):
    sample = sample_people(Labels.of(persons, cameras), 4)
    assert sample.rows.tolist() == [0, 2, 4, 6]
    assert (sample.queries, sample.people, sample.left_out_junk) == (0, 0, 0)
    assert sample.describe() == (
        f"4 crops; mAP and rank-1 cannot be measured: {reason}; name files like 0002_c1s1_000451_03.jpg (person, "
        "camera), or give a folder with labelled crops of the same people in two cameras"
    )
    assert sample.to_dict()["description"] == sample.describe()


def test_a_crop_without_a_camera_is_left_out_and_answers_nobody():
    labels = Labels.of([1, 1, 1, 2, 2], [1, 2, -1, 3, -1])
    sample = sample_people(labels, 9)
    assert sample.rows.tolist() == [0, 1, 3]
    assert sample.describe() == (
        "3 crops of 1 person in 3 cameras, 2 queries, 1 distractor (33 %); left out: 2 junk or unlabelled"
    )


def test_counts_of_given_crops():
    labels = Labels.of([1, 1, 2, 0, -1], [1, 2, 1, 1, 1])
    whole = PeopleSample.of(labels)
    assert (len(whole), whole.people, whole.cameras, whole.queries, whole.distractors) == (5, 1, 2, 2, 2)
    assert PeopleSample.of(labels, [0, 2]).queries == 0
    assert PeopleSample.of(UNKNOWN[:0]).describe().startswith("0 crops; mAP and rank-1 cannot be measured")
    assert len(sample_people(UNKNOWN[:0], 5)) == 0


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ({"count": 0}, "count"),
        ({"count": 5, "seed": -1}, "seed"),
        ({"count": 5, "distractor_share": 1.0}, "distractor_share"),
    ],
    ids=["count", "seed", "share"],
)
def test_settings_out_of_range_are_refused(given, parameter):
    with pytest.raises(UsageError, match=r"expected at least|expected 0 or larger") as error:
        sample_people(UNKNOWN, **given)
    assert error.value.parameters == (parameter,)


def test_large_inputs_take_no_time():
    random = np.random.default_rng(0)
    labels = Labels(random.integers(-1, 3000, 100_000), random.integers(1, 7, 100_000))
    start = time.process_time()
    sample_people(labels, 512)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("count", [1, 12, 50, 240])
def test_spread_samples_take_few_crops_of_many_people(shape, count):
    labels = labels_of(shape, seed=3)
    sample = spread_people(labels, count)
    everything = PeopleSample.of(labels)
    assert len(sample) <= count
    assert len(set(sample.rows.tolist())) == len(sample)
    if not everything.queries:
        assert sample.rows.tolist() == sample_people(labels, count).rows.tolist()
        return
    chosen = labels[sample.rows]
    assert chosen.known.all()
    strangers = int(np.count_nonzero(~has_answer(labels)[sample.rows]))
    assert strangers <= count * 0.2
    room = count - strangers
    given: dict[int, int] = defaultdict(int)
    for person, answered in zip(chosen.persons, has_answer(labels)[sample.rows], strict=True):
        given[int(person)] += bool(answered)
    assert sum(given.values()) == min(room, everything.queries)
    # Nobody gives more than four crops while somebody else could give another one.
    there = {int(person): int(np.sum(has_answer(labels) & (labels.persons == person))) for person in labels.persons}
    if max(given.values()) > CROPS_EACH:
        assert all(given[person] >= min(there[person], CROPS_EACH) for person in there if there[person])
    assert sample.people >= min(everything.people, room // CROPS_EACH)


def test_spread_samples_follow_the_seed_alone():
    labels = labels_of((40, 3, 0, 60, 30), seed=1)
    assert spread_people(labels, 100).rows.tolist() == spread_people(labels, 100).rows.tolist()
    assert spread_people(labels, 100, seed=1).rows.tolist() != spread_people(labels, 100).rows.tolist()
    with pytest.raises(UsageError, match="0 crops to choose"):
        spread_people(labels, 0)
