"""The kinds of artefacts: which files a case has, how they are damaged, and which commands read them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

from fuzzing import containers
from fuzzing.foreign_kinds import FOREIGN_KINDS
from fuzzing.kinds import ArtefactKind, Damage, one_of
from fuzzing.values import damaged_json, damaged_toml, odd_value


def _catalogue(folder: Path, generator: random.Random) -> tuple[str, str]:
    return "crops/.rrid-edge/meta.sqlite", containers.damage_catalogue(
        folder / "crops/.rrid-edge/meta.sqlite", generator
    )


def _gallery_file(folder: Path, generator: random.Random) -> tuple[str, str]:
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / "crops/.rrid-edge").iterdir())
    name = generator.choice(names)
    way = generator.choice(("bytes", "bytes", "bytes", "bytes", "remove", "folder", "beside"))
    if way == "bytes":
        return one_of(name, by=containers.damaged_bytes)(folder, generator)
    if way == "beside":
        (folder / "crops/.rrid-edge" / generator.choice(("meta.sqlite-wal", "meta.sqlite-journal"))).write_bytes(
            generator.randbytes(generator.choice((0, 32, 4096)))
        )
        return name, way
    (folder / name).unlink()
    if way == "folder":
        (folder / name).mkdir()
    return name, way


def _odd_tree(root: str) -> Damage:
    """Rename, empty or replace files of a tree of crops."""

    def damage(folder: Path, generator: random.Random) -> tuple[str, str]:
        names = sorted(path for path in (folder / root).rglob("*") if path.is_file())
        done = []
        for path in generator.sample(names, generator.choice((1, 1, 2, len(names)))):
            way = generator.choice(("name", "name", "name", "empty", "bytes", "folder", "link", "remove"))
            done.append(way)
            _spoil(path, way, generator)
        return root, "+".join(sorted(set(done)))

    return damage


def _spoil(path: Path, way: str, generator: random.Random) -> None:
    if way == "name":
        name = _odd_name(path.name, generator)
        if name not in ("", ".", "..") and not path.with_name(name).exists():
            path.rename(path.with_name(name))
    elif way == "bytes":
        path.write_bytes(containers.damaged_bytes(path.read_bytes(), generator)[0])
    elif way == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
        elif way == "link":
            path.symlink_to(generator.choice(("/etc/passwd", "nowhere", path.name, "..", "/dev/zero")))


def _odd_name(name: str, generator: random.Random) -> str:
    odd = generator.choice(
        ("\udcff", "\n", "\x1b[31m", "9" * 30, "-1", "_", "é", " ", "c0s0", ".", "x" * 120, "\u202e")
    )
    place = generator.randrange(len(name))
    way = generator.randrange(4)
    if way == 0:
        return name[:place] + odd + name[place:]
    if way == 1:
        return odd + name
    return name.replace("_", odd, 1) if way == 2 else name[:place] + name[place + 1 :]


def _state(folder: Path, generator: random.Random) -> tuple[str, str]:
    """Damage a value of the training state, or its file."""
    import torch

    name = "run/last.state.pt"
    if generator.random() < 0.4:
        return one_of(name, by=containers.damaged_torch_zip)(folder, generator)
    state: dict[str, Any] = torch.load(folder / name, weights_only=True)
    key = generator.choice(sorted(state))
    way = generator.choice(("value", "value", "remove", "inner"))
    if way == "inner" and isinstance(state[key], dict) and state[key]:
        state[key][generator.choice(sorted(state[key], key=str))] = _odd_state_value(generator)
    elif way == "inner" and isinstance(state[key], str):
        state[key] = damaged_json(state[key].encode(), generator)[0].decode("utf-8", "replace")
    elif way == "remove":
        del state[key]
    else:
        state[key] = _odd_state_value(generator)
    (folder / name).unlink()
    torch.save(state, folder / name)
    return name, f"{way} {key}"


def _odd_state_value(generator: random.Random) -> object:
    import torch

    tensors = (torch.zeros(3), torch.full((2, 2), float("nan")), torch.zeros(0, dtype=torch.uint8), torch.tensor(7))
    value = odd_value(generator) if generator.random() < 0.6 else generator.choice(tensors)
    return value if not isinstance(value, str) or "\ud800" not in value else "text"


_MODEL_COMMANDS: Final = (
    "info rrid.onnx --json",
    "info rrid.onnx",
    "index crops --model rrid.onnx --runtime onnxruntime --json",
    "parity rrid.onnx --runtime onnxruntime",
    "match query.jpg crops --model rrid.onnx --runtime onnxruntime",
    "export rrid.onnx",
    "calibrate rrid.onnx --images crops",
)
_GALLERY_COMMANDS: Final = (
    "gallery list crops --json",
    "gallery list crops",
    "gallery verify crops",
    "gallery export crops --output out.npz --overwrite",
    "gallery compact crops",
    "gallery copy crops other",
    "match query.jpg crops --model rrid.onnx --runtime onnxruntime --json",
    "index crops --model rrid.onnx --runtime onnxruntime",
    "index crops --model rrid.onnx --runtime onnxruntime --rebuild --allow-removals",
)
_MODEL: Final = ("rrid.onnx", "crops", "query.jpg", "rrid.goldens.npz")
_DATA_COMMANDS: Final = (
    "evaluate rrid.onnx --dataset data --runtime onnxruntime",
    "evaluate rrid.onnx --dataset data --runtime onnxruntime --json --no-thresholds --per-camera",
    "calibrate rrid.onnx --images data --count 8",
)
KINDS: Final[dict[str, ArtefactKind]] = {
    "onnx": ArtefactKind(4, _MODEL, one_of("rrid.onnx", by=containers.damaged_onnx), _MODEL_COMMANDS),
    "sidecar": ArtefactKind(
        3,
        ("rrid.fp16.engine", "rrid.fp16.engine.json", "crops", "query.jpg"),
        one_of("rrid.fp16.engine.json", by=damaged_json),
        (
            "info rrid.fp16.engine --json",
            "info rrid.fp16.engine",
            "index crops --model rrid.fp16.engine",
            "parity rrid.fp16.engine",
        ),
    ),
    "plan": ArtefactKind(
        1,
        ("rrid.fp16.engine", "rrid.fp16.engine.json"),
        one_of("rrid.fp16.engine", by=containers.damaged_bytes),
        ("info rrid.fp16.engine",),
    ),
    "thresholds": ArtefactKind(
        3,
        (*_MODEL, "rrid.thresholds.json"),
        one_of("rrid.thresholds.json", by=damaged_json),
        (
            "match query.jpg crops --fpr 0.2 --model rrid.onnx --runtime onnxruntime",
            "match query.jpg crops --fpir 0.3 --model rrid.onnx --runtime onnxruntime --json",
        ),
    ),
    "goldens": ArtefactKind(
        3,
        _MODEL,
        one_of("rrid.goldens.npz", by=containers.damaged_npz),
        ("parity rrid.onnx --runtime onnxruntime", "parity rrid.onnx --runtime onnxruntime --images crops --json"),
    ),
    "catalogue": ArtefactKind(3, _MODEL, _catalogue, _GALLERY_COMMANDS),
    "gallery files": ArtefactKind(3, _MODEL, _gallery_file, _GALLERY_COMMANDS),
    "kept facts": ArtefactKind(
        1,
        (*_MODEL, "kept"),
        one_of("kept/kept.json", by=damaged_json),
        ("index crops --gallery kept --model rrid.onnx --runtime onnxruntime",),
    ),
    "dataset lists": ArtefactKind(
        4,
        (*_MODEL, "data"),
        one_of("data/meta.json", "data/splits.json", "data/test.json", by=damaged_json),
        _DATA_COMMANDS,
    ),
    "dataset images": ArtefactKind(1, (*_MODEL, "data"), _odd_tree("data/images"), _DATA_COMMANDS),
    "market tree": ArtefactKind(
        2,
        (*_MODEL, "market"),
        _odd_tree("market"),
        (
            "prepare market1501 market out",
            "prepare market1501 market out --json",
            "evaluate rrid.onnx --dataset market --runtime onnxruntime",
        ),
    ),
    "people tree": ArtefactKind(
        2, ("people",), _odd_tree("people"), ("prepare folders people out", "prepare folders people out --json")
    ),
    "cuhk03": ArtefactKind(
        1, ("cuhk-03.mat",), one_of("cuhk-03.mat", by=containers.damaged_bytes), ("prepare cuhk03 cuhk-03.mat out",)
    ),
    "settings": ArtefactKind(
        3,
        ("settings.toml",),
        one_of("settings.toml", by=damaged_toml),
        ("train --config settings.toml --dataset-path nowhere",),
    ),
    "weights, zip": ArtefactKind(
        3,
        ("few.pth", *_MODEL),
        one_of("few.pth", by=containers.damaged_torch_zip),
        (
            "export few.pth -o out",
            "evaluate few.pth --dataset data",
            "parity rrid.onnx --reference few.pth --images crops --runtime onnxruntime",
        ),
    ),
    "weights, old": ArtefactKind(
        2, ("few-old.pth",), one_of("few-old.pth", by=containers.damaged_pickle), ("export few-old.pth -o out",)
    ),
    "safetensors": ArtefactKind(
        2,
        ("few.safetensors",),
        one_of("few.safetensors", by=containers.damaged_safetensors),
        ("export few.safetensors -o out",),
    ),
    "checkpoint": ArtefactKind(
        1,
        ("tiny.safetensors", "rrid.onnx", "crops"),
        one_of("tiny.safetensors", by=containers.damaged_safetensors),
        (
            "parity rrid.onnx --reference tiny.safetensors --images crops --runtime onnxruntime",
            "export tiny.safetensors -o out --crops nowhere",
        ),
        True,
    ),
    "network": ArtefactKind(
        1,
        ("tiny.pth", "rrid.onnx", "crops"),
        one_of("tiny.pth", by=containers.damaged_torch_zip),
        (
            "parity rrid.onnx --reference tiny.pth --images crops --runtime onnxruntime",
            "export tiny.pth -o out --height 96 --width 32 --crops nowhere",
        ),
        True,
    ),
    "training state": ArtefactKind(1, ("run", "data"), _state, ("train --resume run",), True),
    **FOREIGN_KINDS,
}
"""All kinds, by the name that the summary shows."""
