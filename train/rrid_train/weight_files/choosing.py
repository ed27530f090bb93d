"""Find a network's tensors in a weight file: in which dictionary they lie, under which prefix, averaged or not.

Training programs nest state dicts (``{"state_dict": ..., "epoch": 3}``) and wrap modules, which prefixes all names
(``module.``, ``_orig_mod.``, ``model.``). The search knows one name that the network must have, its anchor. So it finds
the tensors under any key and any prefix, and it can say which.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_train.weight_files.opening import Opened, damaged
from rrid_train.weight_files.records import Shell, StoredArray, StoredTensor, TensorLike, Unread

AVERAGED, RAW = "ema", "raw"
CHOICES: Final = (AVERAGED, RAW)
"""Which weights of a file to take: the averaged ones (EMA, SWA) or the ones that the optimiser changed."""

_KEYS = ("state_dict", "model", "model_state_dict", "net", "network")
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_AVERAGES = frozenset({"ema", "swa", "averaged", "average", "avg", "shadow"})
_MAX_DEPTH, _MAX_ITEMS, _MAX_PREFIX, _MAX_VISITED = 12, 64, 300, 500_000


Flat = Mapping[str, TensorLike | Unread]


@dataclass(frozen=True)
class ChosenWeights:
    """The tensors of a network.

    Attributes:
        tensors: tensors by the network's names, on the CPU. Floating-point types are float32.
        notes: what was taken off, converted or left out, a short phrase each; empty for a plain state dict.
        averaged: whether these are averaged weights.
        has_both: whether the file holds averaged and raw weights.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    averaged: bool = False
    has_both: bool = False


@dataclass(frozen=True)
class _Found:
    """Names of one network in one dictionary of a file."""

    path: tuple[str, ...]
    prefix: str
    shown: str
    flat: Flat

    @property
    def averaged(self) -> bool:
        words = {word for part in (*self.path, self.prefix) for word in _words(part)}
        return not words.isdisjoint(_AVERAGES) or any(
            name.endswith("n_averaged") and _clean(name) == f"{self.prefix}n_averaged" for name in self.flat
        )

    @property
    def name(self) -> str:
        """Where it lies, for example ``state_dict, prefix model.``; empty for a plain state dict."""
        parts = [" > ".join(self.path)] if self.path else []
        return printable(", ".join([*parts, f"prefix {self.shown}"] if self.shown else parts))


def choose_weights(opened: Opened, anchor: str, weights: str | None = None) -> ChosenWeights:
    """The tensors of the network that has the tensor ``anchor``.

    Args:
        opened: the file.
        anchor: a name that every such network has.
        weights: ``ema`` or ``raw``; None takes ``ema`` where the file holds both.

    Raises:
        UsageError: ``weights`` is unknown, or the file does not hold these.
        CheckpointError: the file holds no tensors, several networks, or a tensor that cannot be read.
    """
    if weights is not None and weights not in CHOICES:
        raise UsageError(f"weights {weights!r} are unknown: expected one of {', '.join(CHOICES)}", parameter="weights")
    try:
        flats = list(_Search(opened.content).run())
    except ValueError as error:
        raise damaged(opened.where, error) from error
    found = [place for path, flat in flats for place in _places(path, flat, anchor)]
    if not found:
        return _without_anchor(opened, flats)
    averages, raws = [place for place in found if place.averaged], [place for place in found if not place.averaged]
    if weights is not None and not (averages if weights == AVERAGED else raws):
        held = "averaged" if averages else "raw"
        raise UsageError(
            f"{opened.where}: it holds only {held} weights, but {weights} was asked for; leave the choice out",
            parameter="weights",
        )
    taken = _only(opened.where, averages if averages and weights != RAW else raws)
    chosen = _read(opened, taken, [place.prefix for place in found if place.flat is taken.flat])
    notes = [f"{taken.name} taken off"] if taken.name else []
    if averages and raws:
        other = (raws if taken.averaged else averages)[0]
        kinds = ("averaged", "raw") if taken.averaged else ("raw", "averaged")
        notes = [f"{taken.name or 'top level'} taken, the {kinds[0]} weights, and not {other.name or 'the top level'}, "
                 f"the {kinds[1]} ones"]  # fmt: skip
    elif taken.averaged:
        notes.append("averaged weights")
    others = [place for place in (averages if taken.averaged else raws) if place is not taken]
    if others:
        notes.append(f"left {others[0].name or 'the top level'}")
    return ChosenWeights(chosen.tensors, (*notes, *chosen.notes), taken.averaged, bool(averages and raws))


class _Search:
    """Every dictionary and module of a file that holds tensors.

    Args:
        content: what was read from the file.

    Raises:
        ValueError: there is too much in it to search.
    """

    def __init__(self, content: object) -> None:
        self._left = _MAX_VISITED
        self._seen: set[int] = set()
        self._waiting: deque[tuple[tuple[str, ...], object]] = deque([((), content)])

    def run(self) -> Iterator[tuple[tuple[str, ...], Flat]]:
        """The dictionaries, each with the keys that lead to it, outermost first."""
        while self._waiting:
            path, value = self._waiting.popleft()
            if id(value) in self._seen or len(path) > _MAX_DEPTH:
                continue
            self._seen.add(id(value))
            flat = self._module(value) if isinstance(value, Shell) else None
            if flat:
                yield path, flat
                continue
            named = self._named(value)
            tensors = _tensors(named)
            if tensors:
                yield path, tensors
            self._waiting.extend(
                ((*path, key), item) for key, item in named.items() if isinstance(item, dict | list | tuple | Shell)
            )

    def _named(self, value: object) -> dict[str, object]:
        """Entries of a dictionary with a text as their key, attributes of an object, items of a short list."""
        if isinstance(value, list | tuple):
            return {f"[{index}]": item for index, item in enumerate(value[:_MAX_ITEMS])}
        entries = value
        if isinstance(value, Shell):
            entries = dict[object, object](value.attributes) | value.entries
        if not isinstance(entries, dict):
            return {}
        self._spend(len(entries))
        return {key: item for key, item in entries.items() if isinstance(key, str) and len(key) <= _MAX_PREFIX}

    def _module(self, module: Shell) -> dict[str, TensorLike | Unread]:
        """The parameters and buffers of a pickled module, named as in ``state_dict()``."""
        found: dict[str, TensorLike | Unread] = {}
        waiting = [("", module)]
        while waiting:
            prefix, part = waiting.pop()
            self._spend(1)
            for kind in ("_parameters", "_buffers"):
                entries = part.attributes.get(kind)
                if isinstance(entries, dict):
                    self._spend(len(entries))
                    found.update({f"{prefix}{name}": value for name, value in _tensors(entries).items()})
            children = part.attributes.get("_modules")
            if isinstance(children, dict) and len(prefix) < _MAX_PREFIX:
                self._spend(len(children))
                waiting += [
                    (f"{prefix}{name}.", child)
                    for name, child in children.items()
                    if isinstance(child, Shell) and isinstance(name, str) and len(name) <= _MAX_PREFIX
                ]
        return found

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"it holds more than {_MAX_VISITED:,} entries to search")


def _tensors(entries: Mapping[str, object]) -> dict[str, TensorLike | Unread]:
    """The tensors of a dictionary, with those of kinds that are not read."""
    return {
        name: value
        for name, value in entries.items()
        if isinstance(name, str) and len(name) <= _MAX_PREFIX
        if isinstance(value, StoredTensor | StoredArray)
        or (isinstance(value, Unread) and value.kind.startswith("torch._utils."))
    }


def _places(path: tuple[str, ...], flat: Flat, anchor: str) -> Iterator[_Found]:
    """The networks in one dictionary: one per prefix under which the anchor is found."""
    shown: dict[str, str] = {}
    for name in flat:
        clean = _clean(name)
        if clean == anchor or clean.endswith("." + anchor):
            shown.setdefault(clean.removesuffix(anchor), name.removesuffix(anchor) if name.endswith(anchor) else "")
    for prefix, as_stored in shown.items():
        yield _Found(path, prefix, as_stored or prefix, flat)


def _clean(name: str) -> str:
    """A name without the wrappers' parts, which stand wherever a wrapped module does."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _words(text: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower())


def _only(where: str, places: list[_Found]) -> _Found:
    """The one place of several that is meant: the outermost, under the first usual key, without a prefix.

    Raises:
        CheckpointError: there are several.
    """
    outermost = min(len(place.path) for place in places)
    near = [place for place in places if len(place.path) == outermost]
    for key in ("", *_KEYS):
        usual = [place for place in near if (place.path[-1] if place.path else "") == key]
        for few in ([place for place in usual if not place.prefix], usual):
            if len(few) == 1:
                return few[0]
    if len(near) > 1:
        raise CheckpointError(
            f"{where}: it holds several networks ({'; '.join(place.name or 'top level' for place in near[:4])}); "
            "expected one: save the one that is meant with torch.save(model.state_dict(), ...)"
        )
    return near[0]


def _read(opened: Opened, place: _Found, prefixes: Sequence[str]) -> ChosenWeights:
    """Read the tensors under a prefix, and not those under another one of ``prefixes``, which are other networks."""
    tensors: dict[str, Tensor] = {}
    types: dict[str, None] = {}
    left_out: list[str] = []
    inside: dict[str, None] = {}
    for stored_name, stored in place.flat.items():
        name = _clean(stored_name)
        owner = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)
        # As n_averaged beside module.*: it is the wrapper's own.
        beside_wrapper = not stored_name.startswith(place.shown) and "." not in name.removeprefix(place.prefix)
        if owner != place.prefix or beside_wrapper:
            left_out += [stored_name] if owner is None or beside_wrapper else []
            continue
        name = name.removeprefix(place.prefix)
        if name in tensors:
            raise CheckpointError(
                f"{opened.where}: {printable(name)!r} is in it with and without a wrapper's prefix; expected one: save "
                "the network with torch.save(model.state_dict(), ...)"
            )
        if isinstance(stored, Unread):
            raise CheckpointError(
                f"{opened.where}: {printable(stored_name)!r} is no plain tensor ({printable(stored.kind)[:60]}); save "
                "the network in float32"
            )
        tensor = opened.tensor(stored).detach()
        if tensor.is_floating_point() and str(tensor.dtype) != "torch.float32":
            types[str(tensor.dtype).removeprefix("torch.")] = None
            tensor = tensor.float()
        tensors[name] = tensor
        inside.update(dict.fromkeys(_WRAPPERS.intersection(stored_name.removeprefix(place.shown).split("."))))
    notes = [f"inner wrapper(s) {', '.join(inside)} taken off"] if inside else []
    notes += [f"{', '.join(types)} converted to float32"] if types else []
    if left_out:
        notes.append(f"{len(left_out)} other tensor(s) left out (first: {printable(left_out[0])!r})")
    return ChosenWeights(tensors, tuple(notes))


def _without_anchor(opened: Opened, flats: list[tuple[tuple[str, ...], Flat]]) -> ChosenWeights:
    """The largest dictionary of a file that does not hold the network: whoever loads it says what is missing.

    Raises:
        CheckpointError: the file holds no tensors.
    """
    if not flats:
        raise CheckpointError(
            f"{opened.where}: no tensors found in it; save the network with torch.save(model.state_dict(), ...)"
        )
    path, flat = max(flats, key=lambda item: len(item[1]))
    tensors = {_clean(name): opened.tensor(value) for name, value in flat.items() if not isinstance(value, Unread)}
    return ChosenWeights(tensors, (f"{printable(' > '.join(path))} taken off",) if path else ())
