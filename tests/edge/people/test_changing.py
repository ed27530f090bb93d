"""Names, merges, splits, verdicts: against a dictionary, through kills, from threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrid_edge.errors import OutputError, RridEdgeError, UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.opening import create_store
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.changing import Editor
from rrid_edge.people.journal import settle
from rrid_edge.people.records import ConflictError, KeptQuery, NotFoundError, pair_of
from support.galleries import SPEC, vectors
from support.memory_store import MemoryStore

CROPS = 8


def memory(count=CROPS):
    """A store with crops 1, 2, ... and an empty book, both in memory."""
    store = MemoryStore(SPEC)
    store.add([NewRow(None, camera=str(index % 3)) for index in range(count)], vectors(count))
    return store, PeopleBook(None)


def edit(store, book):
    return Editor(store, book)


def labels(store) -> dict[int, str | None]:
    return {row.id: row.label for row in store.rows()}


def query(book: PeopleBook, seed: int = 9) -> str:
    return book.keep_query(KeptQuery(vectors(1, seed)[0], SPEC.fingerprint, b"jpeg of a query"))


def test_a_person_is_named_renamed_merged_and_split_again():
    store, book = memory()
    ann = edit(store, book).create("Ann", [1, 2]).person
    bob = edit(store, book).create("  Bob   Smith ", [3]).person
    assert (ann.number, bob.number, bob.name) == (1, 2, "Bob Smith")
    edit(store, book).rename(1, "Anna")
    merged = edit(store, book).merge(1, 2)
    assert labels(store) | {} == dict.fromkeys((1, 2, 3), "Anna") | dict.fromkeys(range(4, 9))
    assert [(kept.kind, kept.other, kept.name, kept.crops) for kept in book.kept_changes(1)] == [
        ("merge", 2, "Bob Smith", (3,))
    ]
    assert book.person(2) is None
    edit(store, book).undo(1, merged.change)
    assert labels(store)[3] == "Bob Smith"
    assert book.person(2).name == "Bob Smith"
    assert not book.kept_changes(1)
    split = edit(store, book).split(1, [2], "Cem")
    assert (split.person.number, labels(store)[2]) == (3, "Cem")
    edit(store, book).undo(1, split.change)
    assert labels(store)[2] == "Anna"
    assert book.person(3) is None
    assert edit(store, book).create("Cem", [5]).person.number == 4  # 3 is never used again


def test_an_undone_merge_moves_only_crops_whose_label_has_not_changed_since():
    store, book = memory()
    edit(store, book).create("Ann", [1])
    edit(store, book).create("Bob", [2, 3, 4])
    merged = edit(store, book).merge(1, 2).change
    edit(store, book).split(1, [3], None)
    rows = {row.id: row for row in store.rows()}
    store.update([rows[4].__class__(**{**rows[4].__dict__, "label": "someone"})])  # another program
    edit(store, book).undo(1, merged)
    assert [labels(store)[crop] for crop in (1, 2, 3, 4)] == ["Ann", "Bob", None, "someone"]
    with pytest.raises(NotFoundError, match="no merge or split"):
        edit(store, book).undo(1, merged)


def test_changes_that_make_no_sense_are_refused_in_one_line():
    store, book = memory()
    editor = edit(store, book)
    editor.create("Ann", [1])
    editor.create("Bob", [2])
    for name, words in (("Ann", "is the name of person p1"), ("ann", "looks like Ann"), ("\u0410nn", "looks like Ann")):
        with pytest.raises(ConflictError, match=words):
            editor.create(name, [3])
    odd: list = ["", "  ", "a\x00b", "a\u202eb", "x" * 101, "-1", "junk", 7]
    for name in odd:
        with pytest.raises(UsageError):
            editor.create(name, [3])
    with pytest.raises(ConflictError, match="crop 1 is Ann already"):
        editor.create("Cem", [1])
    with pytest.raises(NotFoundError, match="crop 99"):
        editor.create("Cem", [99])
    with pytest.raises(NotFoundError, match="p9"):
        editor.merge(1, 9)
    with pytest.raises(UsageError, match="herself"):
        editor.merge(1, 1)
    with pytest.raises(NotFoundError, match="crop 2 is not one of Ann"):
        editor.split(1, [2], None)
    with pytest.raises(UsageError, match="rename her"):
        editor.split(1, [1], "Cem")
    assert labels(store) == {1: "Ann", 2: "Bob"} | dict.fromkeys(range(3, 9))


def test_labels_of_other_programs_are_people_of_the_book():
    store, book = memory()
    rows = store.rows()
    store.update([row.__class__(**{**row.__dict__, "label": "José"}) for row in rows[:2]])
    assert book.person_ids(["José"]) == {"José": "p1"}
    with pytest.raises(ConflictError, match="is the name of person p1"):
        edit(store, book).create("Jose\u0301", [3])  # the same name in NFD
    assert edit(store, book).rename(1, "Pepe").crops == (1, 2)
    assert book.person_ids(["Pepe"]) == {"Pepe": "p1"}


# Verdicts -------------------------------------------------------------------------------------------------------------


def test_same_gives_the_label_and_a_later_verdict_takes_it_away_again():
    store, book = memory()
    edit(store, book).create("Ann", [1])
    assert edit(store, book).judge((2, 3), "same").crops == ()  # both are nobody's: they wait
    assert edit(store, book).judge((1, 2), "same").crops == (2, 3)
    assert [labels(store)[crop] for crop in (1, 2, 3)] == ["Ann"] * 3
    edit(store, book).judge((1, 2), "different")
    assert [labels(store)[crop] for crop in (1, 2, 3)] == ["Ann", None, None]
    with pytest.raises(ConflictError, match="told to be different"):
        edit(store, book).judge((1, 3), "same")
    edit(store, book).judge((1, 2), "unsure")
    edit(store, book).judge((1, 3), "same")
    assert [labels(store)[crop] for crop in (1, 2, 3)] == ["Ann"] * 3


def test_a_label_stays_while_another_verdict_gives_it():
    store, book = memory()
    edit(store, book).create("Ann", [1, 2])
    for pair in ((1, 3), (2, 3)):
        edit(store, book).judge(pair, "same")
    edit(store, book).judge((1, 3), "unsure")
    assert labels(store)[3] == "Ann"
    edit(store, book).judge((2, 3), "unsure")
    assert labels(store)[3] is None


def test_two_people_are_merged_not_judged():
    store, book = memory()
    edit(store, book).create("Ann", [1])
    edit(store, book).create("Bob", [2])
    with pytest.raises(ConflictError, match="merge them"):
        edit(store, book).judge((1, 2), "same")
    edit(store, book).judge((1, 2), "different")
    merged = edit(store, book).merge(1, 2).change  # says more than the verdict, which is set aside
    assert book.verdicts_of(1) == {}
    with pytest.raises(ConflictError, match="both are Ann"):
        edit(store, book).judge((1, 2), "different")
    edit(store, book).undo(1, merged)
    assert book.verdicts_of(1) == {2: "different"}


def test_a_query_joins_the_crops_that_show_its_person():
    store, book = memory()
    name = query(book)
    edit(store, book).create("Ann", [1])
    edit(store, book).judge((name, 2), "same")
    assert labels(store)[2] is None
    assert edit(store, book).judge(pair_of(1, name), "same").crops == (2,)
    assert book.verdicts_of(name) == {1: "same", 2: "same"}
    edit(store, book).judge((name, 1), "unsure")
    assert labels(store)[2] is None
    with pytest.raises(NotFoundError, match="any more"):
        edit(store, book).judge(("q_unknown", 1), "same")
    with pytest.raises(UsageError, match="itself"):
        pair_of(3, 3)


def test_a_split_sets_the_verdicts_aside_that_it_contradicts():
    store, book = memory()
    edit(store, book).create("Ann", [1])
    edit(store, book).judge((1, 2), "same")
    split = edit(store, book).split(1, [2], "Bob").change
    assert book.verdicts_of(1) == {}
    edit(store, book).undo(1, split)
    assert book.verdicts_of(1) == {2: "same"}


# Kills ----------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What a test raises where a process would die."""


CHANGES = {
    "create": lambda editor: editor.create("Cem", [4]),
    "rename": lambda editor: editor.rename(1, "Anna"),
    "merge": lambda editor: editor.merge(1, 2),
    "adopt": lambda editor: editor.adopt(1, [4, 5]),
    "split": lambda editor: editor.split(1, [2], "Dea"),
    "judge": lambda editor: editor.judge((1, 4), "same"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after_labels", [False, True])
def test_a_kill_between_both_writes_leaves_the_state_before_or_after(tmp_path, monkeypatch, name, after_labels):
    whole, book = memory()
    store, killed = memory()
    for one, its_book in ((whole, book), (store, killed)):
        edit(one, its_book).create("Ann", [1, 2])
        edit(one, its_book).create("Bob", [3])
    before = labels(store)
    CHANGES[name](edit(whole, book))

    def die(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*((PeopleBook, "finish") if after_labels else (MemoryStore, "update")), die)
        with pytest.raises(Killed):
            CHANGES[name](edit(store, killed))
    assert len(killed.pending()) == 1
    people = {ref.number for ref in killed.people({label for label in labels(store).values() if label}).values()}
    assert people <= {1, 2, 3}  # a label that is not finished makes no second person
    settle(store, killed)
    assert labels(store) == (labels(whole) if after_labels else before)
    assert not killed.pending()
    if after_labels:
        assert killed.kept_changes(1) == [
            kept.__class__(**{**kept.__dict__, "time": one.time})
            for kept, one in zip(book.kept_changes(1), killed.kept_changes(1), strict=True)
        ]
        assert [(v.pair, v.answer) for v in killed.verdicts()] == [(v.pair, v.answer) for v in book.verdicts()]


def test_a_server_that_wrote_half_of_the_labels_gets_the_rest(monkeypatch):
    store, book = memory()
    real = MemoryStore.update

    def half(self, rows):
        real(self, rows[:1])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "update", half)
        with pytest.raises(Killed):
            edit(store, book).create("Ann", [1, 2, 3])
    edit(store, book)
    assert [labels(store)[crop] for crop in (1, 2, 3)] == ["Ann"] * 3
    assert book.person_ids(["Ann"]) == {"Ann": "p1"}


def test_a_refused_write_changes_neither_book_nor_gallery(monkeypatch):
    store, book = memory()

    def full(*_arguments: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "update", full)
        with pytest.raises(OutputError):
            edit(store, book).create("Ann", [1])
    assert not book.pending()
    assert edit(store, book).create("Ann", [1]).person.name == "Ann"


# Sequences ------------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """People as a dictionary. A change is a list of (crop, owner before, owner after)."""

    owner: dict[int, int | None] = field(default_factory=lambda: dict.fromkeys(range(1, CROPS + 1)))
    names: dict[int, str] = field(default_factory=dict)
    changes: dict[int, list[tuple[int, int | None, int | None]]] = field(default_factory=dict)

    def move(self, crops, owner) -> list[tuple[int, int | None, int | None]]:
        moved = [(crop, self.owner[crop], owner) for crop in crops]
        self.owner.update(dict.fromkeys(crops, owner))
        return moved

    def of(self, number: int | None) -> list[int]:
        return [crop for crop, owner in self.owner.items() if owner == number]

    def undo(self, change: int) -> bool:
        back = [(crop, before) for crop, before, after in self.changes[change] if self.owner[crop] == after]
        self.owner.update(back)
        return bool(back)

    def labels(self) -> dict[int, str | None]:
        return {crop: self.names[owner] if owner is not None else None for crop, owner in self.owner.items()}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "rename", "merge", "adopt", "split", "undo"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.sets(st.integers(1, CROPS), min_size=1, max_size=3),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_any_sequence_equals_the_dictionary(steps):
    store, book = memory()
    model = Model()
    for position, (kind, first, second, crops) in enumerate(steps):
        _step(edit(store, book), model, (kind, first, second, sorted(crops)), f"name {position}")
        assert labels(store) == model.labels()
        told = {ref.name: ref.number for ref in book.people({x for x in model.labels().values() if x}).values()}
        assert told == {model.names[owner]: owner for owner in model.owner.values() if owner is not None}


def _step(editor, model, step, name) -> None:
    kind, first, second, crops = step
    people = sorted({owner for owner in model.owner.values() if owner is not None})
    one = people[first % len(people)] if people else None
    other = people[second % len(people)] if people else None
    free = [crop for crop in crops if model.owner[crop] is None]
    if kind == "create" and free:
        person = editor.create(name, free).person
        model.names[person.number] = name
        model.move(free, person.number)
    elif kind == "rename" and one is not None:
        editor.rename(one, name)
        model.names[one] = name
    elif kind == "merge" and one != other:
        change = editor.merge(one, other).change
        model.changes[change] = model.move(model.of(other), one)
    elif kind == "adopt" and one is not None and free:
        model.changes[editor.adopt(one, free).change] = model.move(free, one)
    elif kind == "split" and one is not None:
        own = model.of(one)
        chosen = own[: 1 + second % len(own)]
        given = name if len(chosen) < len(own) and second % 2 else None
        done = editor.split(one, chosen, given)
        if done.person is not None:
            model.names[done.person.number] = given
        model.changes[done.change] = model.move(chosen, None if done.person is None else done.person.number)
    elif kind == "undo" and model.changes:
        _undo(editor, model, sorted(model.changes)[first % len(model.changes)])


def _undo(editor, model, change) -> None:
    merged = model.changes[change][0]
    # A merge belongs to the person who got the crops, a split to the one who lost them.
    for owner in (merged[2], merged[1]):
        if owner is None:
            continue
        try:
            editor.undo(owner, change)
        except NotFoundError:
            continue
        except ConflictError:
            assert not model.undo(change)
            return
        assert model.undo(change)
        del model.changes[change]
        return
    raise AssertionError(change)


JUDGEMENTS = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["same", "different", "unsure"])), max_size=12
)


@settings(max_examples=80, deadline=None)
@given(JUDGEMENTS, st.sets(st.integers(1, 5), max_size=2))
def test_verdicts_never_contradict_each_other_or_the_labels(judgements, named):
    store, book = memory(5)
    for crop in sorted(named):
        edit(store, book).create(f"person {crop}", [crop])
    said: dict[tuple[int, int], str] = {}
    for first, second, answer in judgements:
        if first == second:
            continue
        before = labels(store)
        try:
            edit(store, book).judge(pair_of(first, second), answer)
        except ConflictError:
            assert labels(store) == before
            continue
        said[tuple(sorted((first, second)))] = answer
        owners = _owners(said, named)
        assert labels(store) == {crop: owner and f"person {owner}" for crop, owner in owners.items()}
    assert {verdict.pair: verdict.answer for verdict in book.verdicts()} == said


def _owners(said, named) -> dict[int, int | None]:
    """Who each crop is: the named crop among those that ``same`` joins to it, by repeated passes."""
    group = {crop: {crop} for crop in range(1, 6)}
    for _ in range(5):
        for (first, second), answer in said.items():
            if answer == "same":
                group[first] = group[second] = group[first] | group[second]
    for (first, second), answer in said.items():
        assert answer != "different" or second not in group[first]
    found = {crop: sorted(named & near) for crop, near in group.items()}
    assert all(len(owners) <= 1 for owners in found.values())
    return {crop: owners[0] if owners else None for crop, owners in found.items()}


def test_two_threads_merge_and_label_at_once(tmp_path):
    with create_store(tmp_path / "g", SPEC) as store, PeopleBook.at(tmp_path / "g") as book:
        store.add([NewRow(None) for _ in range(12)], vectors(12))
        for number in range(6):
            edit(store, book).create(f"person {number}", [2 * number + 1])
        turn, failures = threading.Lock(), []

        def work(kept: int) -> None:
            try:
                for other in range(kept + 2, 7, 2):
                    with turn:  # as ServedGallery.writing() does
                        edit(store, book).merge(kept, other)
                    book.person_ids({row.label for row in store.rows() if row.label})  # readers take no turn
            except RridEdgeError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(kept,)) for kept in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert sorted(filter(None, labels(store).values())) == ["person 0"] * 3 + ["person 1"] * 3
        assert book.person_ids(["person 0", "person 1"]) == {"person 0": "p1", "person 1": "p2"}
