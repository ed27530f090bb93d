"""Labels of samples: sequences have one number on both sides."""

from __future__ import annotations

from pathlib import Path

from rrid_train.data.samples import Sample, paired_labels


def test_sequences_and_files_have_one_number_on_both_sides():
    query = [Sample(Path("a.jpg"), 1, 1), Sample(Path("b.jpg"), 1, 1, "s1"), Sample(Path("c.jpg"), 1, 2, "s1")]
    gallery = [Sample(Path("d.jpg"), 1, 1, "s1"), Sample(Path("a.jpg"), 1, 1), Sample(Path("e.jpg"), 2, 1)]
    left, right = paired_labels(query, gallery)
    assert left.sequences is not None
    assert right.sequences is not None
    assert left.sequences.tolist() == [0, 1, 2]
    assert right.sequences.tolist() == [1, 0, 3]
    assert (left.persons.tolist(), right.cameras.tolist()) == ([1, 1, 1], [1, 1, 1])
