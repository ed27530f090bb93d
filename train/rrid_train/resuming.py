"""Other settings for a run that goes on: which ones it takes, and what is to be said about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rrid_edge.errors import UsageError
from rrid_edge.machine.processor import usable_cores
from rrid_train.config import config_from_dict
from rrid_train.settings import TrainConfig, resume_settings

_ROUNDING = "the weights may differ in rounding from those of an uninterrupted run"


def resumed_config(stored: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The settings of a run that goes on.

    Args:
        stored: the settings of the run.
        changes: new values by field name, of :func:`rrid_train.settings.resume_settings` only.

    Raises:
        UsageError: the run keeps this setting, or the value does not work.
    """
    for name in changes:
        if name not in resume_settings():
            raise UsageError(
                f"a resumed run keeps its {name}: expected only {', '.join(resume_settings())}; leave {name} out, or "
                "start a new run",
                parameter=name,
            )
    if stored.amp == "fp16" and changes.get("gpus") == 0:
        raise UsageError("gpus 0: the run computes in fp16, which needs a GPU; resume it on one", parameter="gpus")
    return config_from_dict(changes, base=stored, where="changes")


def machine_remarks(old: TrainConfig, new: TrainConfig) -> list[str]:
    """What to say where the machine of a resumed run may round differently, or suits its threads badly."""
    if bool(old.gpus) != bool(new.gpus):
        first, second = ("GPU", "CPU") if old.gpus else ("CPU", "GPU")
        return [f"on a {second}, not a {first}: {_ROUNDING}"]
    if new.gpus or not old.threads:
        return []
    if old.threads != new.threads:
        return [f"threads {new.threads}, not {old.threads}: {_ROUNDING}"]
    if (cores := usable_cores()) < new.threads:
        return [f"the run keeps its {new.threads} threads, but only {cores} cores are usable; threads 0 measures again"]
    return []


def world_remark(old: int, new: int) -> list[str]:
    """What to say if the number of training processes changed."""
    if old == new:
        return []
    return [
        f"{new} process(es), not {old}: each mines triplets and takes batch statistics in its own share of a batch; "
        "the weights will not be those of an uninterrupted run"
    ]
