"""The person sampler: groups, epochs, resumed epochs, and several processes."""

from __future__ import annotations

from collections import Counter

import pytest

from rrid_edge.errors import UsageError
from rrid_train.data.sampler import PersonSampler

PERSONS = [person for person in range(6) for _ in range(5)] + [6]  # 31 images; the last person has one only


def _sampler(**options):
    settings = {"batch_size": 16, "images_per_person": 4, "seed": 3} | options
    return PersonSampler(PERSONS, **settings)


def test_an_epoch_has_one_group_per_image_and_drops_a_single_last_group():
    batches = list(_sampler())
    assert len(batches) == len(_sampler()) == 8  # 31 groups: 7 batches of 4 groups, one of 3
    groups = [tuple(batch[start : start + 4]) for batch in batches for start in range(0, len(batch), 4)]
    assert len(groups) == 31
    per_person = Counter(PERSONS[group[0][0]] for group in groups)
    assert per_person == Counter(PERSONS)  # every image once an anchor


def test_a_group_shows_one_person_and_repeats_images_only_if_it_must():
    for batch in _sampler():
        for start in range(0, len(batch), 4):
            indices = [index for index, _, _ in batch[start : start + 4]]
            persons = {PERSONS[index] for index in indices}
            assert len(persons) == 1
            assert len(set(indices)) == (1 if persons == {6} else 4)


def test_positions_are_unique_in_an_epoch():
    positions = [position for batch in _sampler() for _, _, position in batch]
    assert len(set(positions)) == len(positions)


def test_epochs_differ_and_the_same_seed_repeats_them():
    first, second = _sampler(), _sampler()
    assert list(first) == list(second)
    second.epoch = 1
    assert list(first) != list(second)
    assert list(first) != list(_sampler(seed=4))


def test_a_later_start_yields_the_rest_of_the_same_epoch():
    later = _sampler()
    later.start = 3
    assert list(later) == list(_sampler())[3:]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_same_batches(world):
    size = 12 * world
    alone = list(_sampler(batch_size=size))
    shares = [list(_sampler(batch_size=size, rank=rank, world=world)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    for number, batch in enumerate(alone[: len(shares[0])]):
        together = [item for share in shares for item in share[number]]
        assert {index for index, _, _ in batch} <= {index for index, _, _ in together}
        if len(batch) == size:
            assert sorted(together) == sorted(batch)


@pytest.mark.parametrize(("batch", "words"), [(6, "batch size 6"), (4, "batch size 4")])
def test_batch_sizes_that_do_not_fit_are_refused(batch, words):
    with pytest.raises(UsageError, match=words):
        _sampler(batch_size=batch)


def test_a_training_set_of_one_person_is_refused():
    with pytest.raises(UsageError, match="the training set has 1 people: expected at least 2"):
        PersonSampler([0, 0, 0, 0], batch_size=8, images_per_person=4, seed=0)
