"""Measure how often the part in which near-twins differ is the one that separates them.

Draws pairs of people who differ in one part, in the same pose, camera and light, so that only this part's pixels
differ. Each crop of the person asks for a crop of the person and one of the twin, all from other cameras than its own.
A stripe is right if the pixels of the pair differ there: by at least a quarter of what they differ in the stripe with
most differences.

``pairs`` counts the pairs whose contrast falls most in a right stripe, by the mean over all searches for both in the
same pose. ``told apart`` counts those of them in which the person scores more than the twin on average.

Single searches count if they rank the person first: once with both in the same pose, camera and light, once with each
in a pose, camera and light of its own, as galleries have them. ``right`` is the share of their marks, on the part that
separates both, that are on a right stripe. ``clear`` is the share of marks on a part that separates both clearly, and
``clear right`` the share of right ones among these.

python benchmarks/near_twins.py --model demo/models/rrid.onnx --data demo
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common import watched
from rrid_edge.embedding.embedder import Embedder
from rrid_edge.gallery.sampling import RowSample, SampledRow
from rrid_edge.matching.contrast import ContrastSample, UsualBlocks
from rrid_edge.matching.separation import Separation, separation, stripes_of
from rrid_edge.model.spec import ModelSpec
from rrid_train.demo.config import DemoConfig
from rrid_train.demo.pedestrian import Person, draw_near_twin
from rrid_train.demo.plan import DemoPlan, plan_demo
from rrid_train.demo.scene import draw_shot

LEAST_PIXELS = 0.25
"""Share of the largest difference of a stripe from which another stripe shows the part too."""
_STREAM = 11


@dataclass(frozen=True)
class Pair:
    """Two near-twins.

    Attributes:
        person: somebody of the demo data's test people.
        twin: a copy that differs in one part.
        part: the field of :class:`rrid_train.demo.pedestrian.Person` in which they differ.
        seeds: of their shots, one per camera.
    """

    person: Person
    twin: Person
    part: str
    seeds: tuple[int, ...]

    def shots(self, plan: DemoPlan) -> list[tuple[Image.Image, Image.Image]]:
        """Person and twin in each camera, in the same pose and light."""
        return [
            (_shot(plan, self.person, camera, seed), _shot(plan, self.twin, camera, seed))
            for camera, seed in enumerate(self.seeds)
        ]


def drawn_pairs(plan: DemoPlan, count: int, seed: int) -> list[Pair]:
    """``count`` pairs of a dataset's test people and new twins of them."""
    generator = np.random.default_rng([seed, _STREAM])
    pairs = []
    for _ in range(count):
        person = plan.crowd.people[int(generator.integers(plan.config.training_people, plan.config.people))]
        twin, part = draw_near_twin(person, generator)
        pairs.append(Pair(person, twin, part, tuple(generator.integers(2**31, size=plan.config.cameras).tolist())))
    return pairs


def pixel_differences(one: Image.Image, other: Image.Image, stripes: int) -> NDArray[np.float64]:
    """Sum of the absolute differences of two images in each of some stripes of equal height: float64 (stripes,)."""
    differences = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).sum(axis=(1, 2))
    return np.array([part.sum() for part in np.array_split(differences, stripes)])


def shows_part(stripe: int, differences: NDArray[np.float64]) -> bool:
    """Whether a stripe shows the part in which two images differ."""
    return bool(differences[stripe] >= LEAST_PIXELS * differences.max())


@dataclass(frozen=True)
class Mark:
    """What a search that ranks the person first marks.

    Attributes:
        is_right: whether the marked stripe shows the part.
        is_clear: whether the mark says so clearly.
    """

    is_right: bool
    is_clear: bool


@dataclass(frozen=True)
class Found:
    """What was found on one pair.

    Attributes:
        part: in which the two differ.
        is_right: whether the stripe of the largest fall of the mean contrasts shows the part.
        is_told: whether the person scores more than the twin on average.
        same: marks of the searches with both in the same pose, camera and light.
        other: marks of those with each in its own.
    """

    part: str
    is_right: bool
    is_told: bool
    same: tuple[Mark, ...]
    other: tuple[Mark, ...]


def found_on(
    part: str,
    shots: NDArray[np.float32],
    differences: NDArray[np.float64],
    sample: ContrastSample,
    names: tuple[str, ...],
) -> Found:
    """Search for a person in every camera but the query's.

    Args:
        part: in which the two differ.
        shots: descriptors of person and twin in each camera, float32 (cameras, 2, D).
        differences: of their pixels in each stripe of each camera, float64 (cameras, stripes).
        sample: other people.
        names: of the model's blocks.
    """
    falls, leads = [], []
    marks: dict[bool, list[Mark]] = {True: [], False: []}
    for asking, (query, _) in enumerate(shots):
        usual = sample.usual_blocks(query[None], "person")
        others = [camera for camera in range(len(shots)) if camera != asking]
        for own, twins in itertools.product(others, others):
            crops = np.stack([shots[own, 0], shots[twins, 1]])
            fall, marked = _searched(usual, query, crops)
            lead, is_same = float(query @ (crops[0] - crops[1])), own == twins
            shown = differences[own] if is_same else differences.sum(axis=0)
            if is_same:
                falls.append(fall)
                leads.append(lead)
            if lead > 0 and marked is not None:
                stripe = stripes_of(names).index(names.index(marked.block))
                marks[is_same].append(Mark(shows_part(stripe, shown), marked.clear))
    is_right = shows_part(int(np.mean(falls, axis=0).argmax()), differences.sum(axis=0))
    return Found(part, is_right, float(np.mean(leads)) > 0, tuple(marks[True]), tuple(marks[False]))


def _searched(
    usual: UsualBlocks, query: NDArray[np.float32], crops: NDArray[np.float32]
) -> tuple[list[float], Separation | None]:
    """Falls of the stripes' contrasts from the first crop to the second, and the part that is marked."""
    queries = np.stack([query, query])
    contrasts = usual.contrasts(queries, crops)
    stripes = stripes_of(tuple(block.name for block in usual.blocks))
    falls = [(contrasts[0][place] or 0.0) - (contrasts[1][place] or 0.0) for place in stripes]
    return falls, separation(usual, queries, crops, contrasts)


def others_of(spec: ModelSpec, vectors: NDArray[np.float32]) -> ContrastSample:
    """The sample whose crops are all of other people."""
    return ContrastSample(spec, RowSample((SampledRow.of("other", None, None),) * len(vectors), vectors))


def embedded(
    embedder: Embedder, plan: DemoPlan, pairs: list[Pair]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Descriptors (cameras, 2, D) and pixel differences (cameras, stripes) of each pair."""
    stripes = len(stripes_of(embedder.spec.blocks))
    for pair in pairs:
        shots = pair.shots(plan)
        vectors = embedder.embed([image for both in shots for image in both])
        yield vectors.reshape(len(shots), 2, -1), np.array([pixel_differences(*both, stripes) for both in shots])


def summary(found: list[Found]) -> dict[str, float]:
    """Shares of right pairs, of right ones among the pairs that are told apart, and of right and clear marks."""
    shares = {
        "pairs": _share([one.is_right for one in found]),
        "told apart": _share([one.is_right for one in found if one.is_told]),
    }
    for pose, marks in (("same", [one.same for one in found]), ("other", [one.other for one in found])):
        searches = [mark for one in marks for mark in one]
        shares[f"{pose}: right"] = _share([mark.is_right for mark in searches])
        shares[f"{pose}: clear"] = _share([mark.is_clear for mark in searches])
        shares[f"{pose}: clear right"] = _share([mark.is_right for mark in searches if mark.is_clear])
    return shares


def _share(right: list[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")


def _shot(plan: DemoPlan, person: Person, camera: int, seed: int) -> Image.Image:
    content = draw_shot(person, plan.cameras[camera], np.random.default_rng(seed))
    return Image.open(io.BytesIO(content)).convert("RGB")


def main() -> None:
    """Print one line per part, and the shares over all pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="demo data whose gallery holds the other people")
    parser.add_argument("--seed", type=int, default=0, help="seed of the demo data, and of the pairs")
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--record", type=Path, help="write the descriptors, for tests")
    asked = parser.parse_args()
    plan = plan_demo(DemoConfig(seed=asked.seed))
    pairs = drawn_pairs(plan, asked.pairs, asked.seed)
    with Embedder(asked.model) as embedder:
        gallery = embedder.embed(sorted((asked.data / "gallery").glob("*.jpg")))
        measured = list(embedded(embedder, plan, pairs))
        spec = embedder.spec
    others = others_of(spec, gallery)
    found = [
        found_on(pair.part, *one, others, spec.blocks)
        for pair, one in zip(pairs, measured, strict=True)
        if one[1].any()
    ]
    parts = sorted({one.part for one in found})
    print_table([(part, [one for one in found if one.part == part]) for part in parts] + [("all", found)])
    if asked.record is not None:
        record(asked.record, spec, gallery, np.stack([vectors for vectors, _ in measured]))


def print_table(rows: list[tuple[str, list[Found]]]) -> None:
    """Print the summaries of some parts, one per line."""
    columns = [f"{name:>{max(5, len(name))}}" for name in summary(rows[0][1])]
    print("  ".join(["part   count", *columns]))
    for part, found in rows:
        shares = [f"{share:{len(column)}.2f}" for column, share in zip(columns, summary(found).values(), strict=True)]
        print("  ".join([f"{part:6} {len(found):5}", *shares]))


def record(path: Path, spec: ModelSpec, gallery: NDArray[np.float32], shots: NDArray[np.float32]) -> None:
    """Write descriptors as float16: of a part of the gallery, and of the pairs' shots."""
    np.savez_compressed(
        path,
        blocks=np.array(spec.blocks),
        others=gallery[::6].astype(np.float16),
        shots=shots.astype(np.float16),
    )


if __name__ == "__main__":
    watched(main)
