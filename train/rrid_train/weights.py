"""Weights from files: ImageNet backbones, state dicts and pickled modules, read without running their code.

A pickle file can run any program. The unpickler of this module builds only tensors, storages and plain containers. It
replaces every other class by an empty shell without methods, and refuses to call anything.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
import torchvision
from torch import Tensor

from rrid_edge.errors import CheckpointError, UsageError, printable
from rrid_train.model import RRID, load_exactly

_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}
_STATE_KEYS = ("state_dict", "model", "model_state_dict", "net")


class _ShellType(type):
    """Metaclass of shells. Pickle creates objects with ``__new__``, which works; calling the class is refused."""

    def __call__(cls, *_arguments: object, **_options: object) -> NoReturn:
        raise CheckpointError(f"it tries to call {cls.__module__}.{cls.__qualname__}")


class _Shell(metaclass=_ShellType):
    """Stands in for an object whose class is not imported: it has attributes and no methods."""

    def __new__(cls, *_arguments: object) -> _Shell:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


class _TensorUnpickler(pickle.Unpickler):
    """Builds only tensors, plain containers and shells."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - any allowed object
        allowed = _ALLOWED.get((module, name))
        if allowed is not None:
            return allowed
        if module == "torch" and (name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        return _ShellType(name, (_Shell,), {"__module__": module, "__qualname__": name})


def _load(stream: io.BufferedIOBase, **options: Any) -> Any:  # noqa: ANN401 - pickle's own interface
    return _TensorUnpickler(stream, **options).load()


_SAFE_PICKLE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load, __name__="rrid_train.weights")


def load_state_dict_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU.

    Reads ``.safetensors``, state dicts and whole pickled modules, in PyTorch's zip format and in the older one. A state
    dict may lie under the key ``state_dict``, ``model``, ``model_state_dict`` or ``net``. The ``module.`` prefix of
    DataParallel is removed.

    Raises:
        UsageError: no such file.
        CheckpointError: the file is damaged, holds no tensors, or tries to run code.
    """
    where = printable(path)
    if not path.is_file():
        raise UsageError(f"{where}: no such weight file; give a .safetensors, .pth or .pt file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # Our pickle module decides what is built, so torch's own weights_only check is not needed.
        content = torch.load(path, map_location="cpu", pickle_module=_SAFE_PICKLE, weights_only=False)
    except CheckpointError as error:
        raise CheckpointError(
            f"{where}: refused, {error.message}; expected tensors only: get the weights as a state dict, from a source "
            "you trust"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(_damaged(where, error)) from error
    except (ImportError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(_damaged(where, error)) from error
    return _without_prefix(_state_of(content, where))


def _damaged(where: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{where}: not a PyTorch weight file, or damaged ({reason[:160]}); save it again with "
        "torch.save(model.state_dict(), ...)"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _without_prefix(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{printable(path)}: not a safetensors file, or damaged ({str(error).splitlines()[0]}); copy it again"
        ) from error


def _state_of(content: object, where: str) -> dict[str, Tensor]:
    """Named tensors of a state dict, of a dict that holds one, or of a module's shell."""
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
        for key in _STATE_KEYS:
            if key in content:
                return _state_of(content[key], where)
    if isinstance(content, _Shell):
        found: dict[str, Tensor] = {}
        _collect(content, "", found)
        if found:
            return found
    raise CheckpointError(f"{where}: no tensors found in it; save the network with torch.save(model.state_dict(), ...)")


def _collect(module: _Shell, prefix: str, found: dict[str, Tensor]) -> None:
    """Add the parameters and buffers of a module's shell to ``found``, in the order of ``state_dict()``."""
    for kind in ("_parameters", "_buffers"):
        entries = module.__dict__.get(kind)
        if isinstance(entries, Mapping):
            found.update({prefix + str(name): value for name, value in entries.items() if isinstance(value, Tensor)})
    children = module.__dict__.get("_modules")
    if isinstance(children, Mapping):
        for name, child in children.items():
            if isinstance(child, _Shell):
                _collect(child, f"{prefix}{name}.", found)


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without DataParallel's prefix ``module.``, if all names have it."""
    wrapped = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if wrapped else name: value.detach() for name, value in state.items()}


def load_backbone(model: RRID, source: str) -> None:
    """Load pre-trained weights into the backbone of ``model``.

    Args:
        model: the network; only its backbone changes.
        source: ``imagenet`` (torchvision's weights, downloaded once), ``none`` (keep the random weights), or a weight
            file in torchvision's naming. Its classifier ``fc.*`` is ignored.

    Raises:
        UsageError: the download failed, or there is no such file.
        CheckpointError: the file is damaged or holds another backbone.
    """
    if source == "none":
        return
    name = model.config.backbone
    if source == "imagenet":
        state = _download(lambda: torchvision.models.get_model(name, weights="DEFAULT").state_dict(), name)
    else:
        state = load_state_dict_file(Path(source))
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    load_exactly(model.base, state, where=printable(source))


def _download(fetch: Callable[[], dict[str, Tensor]], name: str) -> dict[str, Tensor]:
    try:
        return fetch()
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"torchvision's ImageNet weights for {name} cannot be downloaded ({error}); give a file in torchvision's "
            "naming, or none to start from random weights",
            parameter="backbone_weights",
        ) from error
