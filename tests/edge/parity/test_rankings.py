"""First answers and what changed in them: against a slow loop over all images, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rrid_edge.parity import rankings as module
from rrid_edge.parity.agreement import EXPLAINED_DEVIATIONS, compare, explained_margins, row_cosines
from rrid_edge.parity.rankings import compare_rankings, rankings
from rrid_edge.ranking.labels import Labels

BLOCKS = ("one", "two")


def _unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _set(count=60, dimension=16, noise=0.2, seed=0):
    """Descriptors of a reference and of an engine, and labels with junk, distractors and unknown cameras."""
    generator = np.random.default_rng(seed)
    people = generator.integers(-1, 8, count)
    centres = generator.standard_normal((9, dimension))
    reference = _unit(centres[people] + 0.9 * generator.standard_normal((count, dimension)))
    engine = _unit(reference + noise * generator.standard_normal((count, dimension)) / np.sqrt(dimension))
    cameras = generator.integers(0, 3, count)
    cameras[generator.random(count) < 0.05] = -1
    return reference, engine, Labels(people, cameras)


def _candidates(image, labels):
    """Candidates of one image, one by one."""
    known = [person >= 0 and camera >= 0 for person, camera in zip(labels.persons, labels.cameras, strict=True)]
    if not known[image]:
        return []
    found = []
    for other in range(len(labels)):
        same_view = labels.persons[other] == labels.persons[image] and labels.cameras[other] == labels.cameras[image]
        if other != image and known[other] and not (same_view and labels.persons[image] > 0):
            found.append(other)
    return found


@pytest.mark.parametrize("block", [7, 256])
def test_rankings_equal_a_loop_over_all_images(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    reference, engine, labels = _set()
    found = compare_rankings(reference, engine, labels)
    errors, one, two = [], reference.astype(np.float64), engine.astype(np.float64)
    for image in range(len(labels)):
        candidates = _candidates(image, labels)
        if not candidates:
            assert found.first_reference[image] == found.first_engine[image] == -1
            continue
        before = {other: one[image] @ one[other] for other in candidates}
        after = {other: two[image] @ two[other] for other in candidates}
        errors += [after[other] - before[other] for other in candidates]
        first, second = max(candidates, key=before.__getitem__), max(candidates, key=after.__getitem__)
        assert (found.first_reference[image], found.first_engine[image]) == (first, second)
        assert found.lost[image] == pytest.approx(before[first] - before[second], abs=1e-6)
        tens = [set(sorted(candidates, key=scores.__getitem__)[-10:]) for scores in (before, after)]
        assert found.top10[image] == pytest.approx(len(tens[0] & tens[1]) / min(10, len(candidates)))
    assert found.squared_error == pytest.approx(np.mean(np.square(errors)), rel=1e-4)


def test_changes_equal_a_loop_over_all_images():
    reference, engine, labels = _set(noise=0.5)
    found = compare(reference, engine, BLOCKS, labels)
    ranked = compare_rankings(reference, engine, labels)
    errors = 2 - 2 * row_cosines(reference, engine)
    seen = ranked.squared_error / (2 * errors.mean())
    changed = unexplained = lost = won = counted = answers = 0
    for image in range(len(labels)):
        one, two = ranked.first_reference[image], ranked.first_engine[image]
        if one < 0:
            continue
        answers += 1
        if reference[image] @ reference[one] - reference[image] @ reference[two] <= 2e-6:
            continue
        gap_deviation = np.sqrt(seen * (2 * errors[image] + errors[one] + errors[two]))
        gap = float(reference[image] @ reference[one] - reference[image] @ reference[two])
        person = labels.persons[image]
        was, now = person > 0 and labels.persons[one] == person, person > 0 and labels.persons[two] == person
        changed += 1
        unexplained += gap > 3 * gap_deviation
        lost += was and not now
        won += now and not was
        counted += gap > 3 * gap_deviation or (was and not now)
    assert changed > lost > 0 < won
    assert (found.changed, found.unexplained, found.right_to_wrong) == (changed, unexplained, lost)
    assert (found.wrong_to_right, found.counted, found.answers) == (won, counted, answers)
    assert found.top1_agreement == pytest.approx(1 - changed / answers)


def test_a_change_counts_by_its_gap_or_from_right_to_wrong_by_hand():
    """Three images: the engine swaps the near-equal answers of the first one."""
    angles = np.radians([0, 20.0, -20.01])
    reference = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    turned = np.radians([-0.1, 20.0, -20.01])
    engine = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    plain = compare(reference, engine, BLOCKS)
    assert (plain.answers, plain.changed, plain.unexplained, plain.counted) == (3, 1, 0, 0)
    labels = Labels(np.array([1, 1, 2]), np.array([1, 2, 1]))
    labelled = compare(reference, engine, BLOCKS, labels)
    assert (labelled.right_to_wrong, labelled.wrong_to_right, labelled.counted) == (1, 0, 1)
    reverse = compare(reference, engine, BLOCKS, Labels(np.array([1, 2, 1]), np.array([1, 1, 2])))
    assert (reverse.right_to_wrong, reverse.wrong_to_right, reverse.counted) == (0, 1, 0)
    # With an error that is too large for the arithmetic, the same change is unexplained.
    assert compare(reference, engine, BLOCKS, least_cosine=1 - 1e-12).unexplained == 1


def test_the_margin_covers_the_error_of_random_gaps():
    """Of gaps whose error is random, 0.3 % exceed three deviations."""
    generator = np.random.default_rng(5)
    reference = _unit(generator.standard_normal((300, 64)))
    engine = _unit(reference + 0.01 * generator.standard_normal((300, 64)))
    ranked = compare_rankings(reference, engine)
    margins = explained_margins(ranked, row_cosines(reference, engine))
    pairs = generator.integers(0, 300, (300, 2))
    rows = np.arange(300)
    gaps = [
        np.einsum("nd,nd->n", side, side[pairs[:, 0]]) - np.einsum("nd,nd->n", side, side[pairs[:, 1]])
        for side in (reference, engine)
    ]
    usable = (pairs != rows[:, None]).all(axis=1) & (pairs[:, 0] != pairs[:, 1])
    deviations = EXPLAINED_DEVIATIONS * np.abs(gaps[1] - gaps[0])[usable] / margins[usable]
    assert np.mean(deviations > EXPLAINED_DEVIATIONS) < 0.02
    assert np.sqrt(np.mean(deviations**2)) == pytest.approx(1, abs=0.15)


def test_kendall_tau_of_many_images_equals_that_of_all(monkeypatch):
    reference, engine, _ = _set(40, noise=0.5)
    everything = compare(reference, engine, BLOCKS).kendall_tau
    monkeypatch.setattr(module, "_TAU_IMAGES", 40)
    assert compare(reference, engine, BLOCKS).kendall_tau == everything
    monkeypatch.setattr(module, "_TAU_IMAGES", 10)
    assert compare(reference, engine, BLOCKS).kendall_tau == pytest.approx(everything, abs=0.05)
    assert rankings(reference, np.array([3, 5])).tolist() == rankings(reference)[[3, 5]].tolist()
