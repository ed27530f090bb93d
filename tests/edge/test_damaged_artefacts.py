"""Stored records, damaged field by field and byte by byte: one line with the file's name, or sound values."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ArtefactError, UsageError
from rrid_edge.gallery import keeping
from rrid_edge.gallery.milvus.bound import Bound
from rrid_edge.gallery.milvus.facts import CollectionFacts, damage_property
from rrid_edge.model.engine_sidecar import BuildFlags, EngineSidecar, Machine, PrecisionProof, Profile
from rrid_edge.model.names import sidecar_path
from rrid_edge.model.spec import ModelSpec, check_input_size
from rrid_edge.ranking.threshold_file import FORMAT, ModelThresholds, Thresholds, find_thresholds
from rrid_edge.ranking.thresholds import Threshold
from support.thresholds import open_set, record

SPEC = fake_spec()
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, "", "x", "1", "-1", "9" * 5000, "\x1b[31m\n", "\u0663", "\udcff", [], [[]], {},
    {"a": {}}, [None], json.loads("[" * 60 + "]" * 60),
)  # fmt: skip
MOST_CHANGES = 300
ODD_TEXTS = ("", "null", "1e400", "NaN", "[" * 50_000, '{"a":' * 9_999, "true", "\ufeff{}", "[1,]", "{'a': 1}")


@dataclass(frozen=True)
class Kind:
    """One kind of record.

    Attributes:
        values: a sound one.
        read: reads one, given a folder and a text; returns what it read.
        is_sound: whether what was read can be used.
    """

    values: dict[str, Any]
    read: Callable[[Path, str], Any]
    is_sound: Callable[[Any], bool]


def _stored(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def _sidecar() -> dict[str, Any]:
    flags = BuildFlags(
        strongly_typed=True, version_compatible=False, hardware_compatible=False, strip_weights=False, tf32=False,
        workspace_mib=512, optimization_level=3,
    )  # fmt: skip
    machine, profile, proof = Machine("10.3.0", "Orin", "8.7"), Profile(1, 8, 32), PrecisionProof(50, 0, 6, 2)
    spec = SPEC.with_precision("fp16")
    sums = ("a" * 64, "b" * 64)
    return EngineSidecar(spec, machine, profile, "rrid.onnx", *sums, 3, 12.5, flags, proof).to_json()


def _read_sidecar(folder: Path, text: str) -> EngineSidecar:
    _stored(sidecar_path(folder / "file"), text)
    return EngineSidecar.read(folder / "file")


def _read_thresholds(folder: Path, text: str) -> Thresholds | None:
    found = find_thresholds([_stored(folder / "file", text)], "f")
    return None if found is None else found.record


def _read_kept(folder: Path, text: str) -> keeping.Kept | None:
    _stored(keeping.kept_file(folder), text)
    return keeping.load(folder)


def _texts(text: str) -> dict[str, str]:
    """Entries of metadata: whatever is no text becomes one."""
    values = json.loads(text)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _is_sound_spec(spec: ModelSpec) -> bool:
    check_input_size(spec.height_px, spec.width_px, spec.stripes)
    return (
        spec.dimension == len(spec.blocks) * spec.block_width <= 1 << 20 and len(bytes.fromhex(spec.fingerprint)) == 32
    )


def _is_sound_point(point: Threshold) -> bool:
    known = point.score is not None and point.tpr is not None and -1.01 < point.score < 1.01 and 0 <= point.tpr <= 1
    return 0 < point.fpr < 1 and (known or (point.score is None and point.tpr is None))


def _is_sound_record(found: Thresholds) -> bool:
    """Whether the points are sound and a search gets a threshold, or a refusal."""
    for size in (1, 10**9):
        with contextlib.suppress(UsageError):
            assert -1 <= found.searches.score(size, 0.05) <= 1
    return found.people >= 0 and all(_is_sound_point(point) for point in found.pairs.points)


def _is_sound_sidecar(sidecar: EngineSidecar) -> bool:
    profile = sidecar.profile
    named = Path(sidecar.onnx_name).name == sidecar.onnx_name
    return named and 1 <= profile.min_batch <= profile.opt_batch <= profile.max_batch and _is_sound_spec(sidecar.spec)


_PROPERTIES = CollectionFacts(SPEC).to_properties() | damage_property("a", ["b"]) | {
    "rrid.gallery.count": "t", "rrid.gallery.counted": "t 5", "rrid.gallery.removing.3": "t 5",
    "rrid.gallery.retention_s": "60",
}  # fmt: skip
_RECORD = record("d", (Threshold(0.01, 0.5, 0.9), Threshold(0.1, None, None)), open_set())
KINDS = {
    "thresholds": Kind(
        {"format": FORMAT} | asdict(ModelThresholds("f", "d", (_RECORD,))),
        _read_thresholds,
        lambda found: found is None or _is_sound_record(found),
    ),
    "sidecar": Kind(_sidecar(), _read_sidecar, _is_sound_sidecar),
    "kept": Kind(
        {"facts": {"pattern": "auto", "time_from": "exif", "retention_s": "60", "model": "m"}, "forgotten": "x"},
        _read_kept,
        lambda kept: all(isinstance(text, str) for text in (*kept.facts.values(), kept.forgotten)),
    ),
    "metadata": Kind(
        dict(SPEC.to_metadata()),
        lambda folder, text: ModelSpec.from_metadata(_texts(text), where=str(folder)),
        _is_sound_spec,
    ),
    "properties": Kind(
        dict(_PROPERTIES),
        lambda folder, text: CollectionFacts.from_properties(_texts(text), str(folder)),
        lambda facts: _is_sound_spec(facts.spec) and facts.replicas >= 0 and isinstance(facts.bound, Bound),
    ),
}


def _places(values: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list | tuple) else ()
    )
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*place, key))


def _changed(values: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    at: Any = changed
    for key in place[:-1]:
        at = at[key]
    if value is ...:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return changed


def _check(kind: Kind, folder: Path, text: str) -> bool:
    """Whether a text was refused; asserts how."""
    try:
        found = kind.read(folder, text)
    except ArtefactError as error:
        _check_message(error, folder)
        return True
    assert kind.is_sound(found), text[:300]
    return False


def _check_message(error: ArtefactError, folder: Path) -> None:
    assert error.exit_code == 4
    assert str(folder) in error.message
    assert error.message.isprintable()
    assert len(error.message) < 600 + len(str(folder)), error.message


@pytest.mark.parametrize("name", KINDS)
def test_each_field_with_each_odd_value(tmp_path, name):
    kind = KINDS[name]
    values = json.loads(json.dumps(kind.values))
    assert not _check(kind, tmp_path, json.dumps(values))
    changes = [(place, odd) for place in _places(values) for odd in (*ODD, ...)]
    tried = random.Random(2).sample(changes, min(len(changes), MOST_CHANGES))
    refused = sum(_check(kind, tmp_path, json.dumps(_changed(values, *change))) for change in tried)
    assert refused > 0.3 * len(tried)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if name in ("thresholds", "sidecar", "kept")])
def test_odd_files_and_random_bytes(tmp_path, name):
    kind, choose = KINDS[name], random.Random(3)
    assert all(_check(kind, tmp_path, text) for text in ODD_TEXTS)
    content = json.dumps(kind.values).encode()
    for _ in range(100):
        damaged = bytearray(content)
        for _ in range(choose.randint(1, 3)):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        cut = choose.randrange(len(damaged)) if choose.random() < 0.2 else len(damaged)
        _check(kind, tmp_path, damaged[:cut].decode("utf-8", "surrogateescape"))


def test_a_spec_is_not_guessed():
    """None of the entries has a default, except the form of the input, which earlier files do not name."""
    for key in SPEC.to_metadata().keys() - {"rrid.input", "rrid.family"}:
        entries = dict(SPEC.to_metadata())
        del entries[key]
        with pytest.raises(ArtefactError, match=key.removeprefix("rrid.")):
            ModelSpec.from_metadata(entries, where="x")
    assert replace(SPEC).dimension == 240
