"""``rrid-edge train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import require, say
from rrid_edge.errors import UsageError


@app.command(
    epilog="Example: rrid-edge train --dataset-path data/market1501 --exp-dir runs/market --gpus 1 --amp bf16",
    help="Train RRID. Settings come from the preset, then from --config, then from the options given.",
)
def train(
    preset: Annotated[str, typer.Option(help="paper (published recipe) or demo (small, for two CPU cores).")] = "paper",
    config: Annotated[Path | None, typer.Option(help="TOML file with settings over the preset's.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with; its settings count.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already in --exp-dir.")] = False,
    dataset_path: Annotated[str | None, typer.Option(help="Folder of the dataset.")] = None,
    dataset_type: Annotated[str | None, typer.Option(help="auto, rrid, market1501, dukemtmc or cuhk03.")] = None,
    split: Annotated[int | None, typer.Option(help="Which split.")] = None,
    splits_file: Annotated[str | None, typer.Option(help="Another name than splits.json.")] = None,
    num_val: Annotated[float | None, typer.Option(help="Identities held out: a share below 1, or a count.")] = None,
    combine_trainval: Annotated[
        bool | None, typer.Option("--combine-trainval/--hold-out", help="Train on all.")
    ] = None,
    exp_dir: Annotated[str | None, typer.Option(help="Folder of the run.")] = None,
    backbone: Annotated[str | None, typer.Option(help="resnet18, 34, 50, 101 or 152.")] = None,
    height: Annotated[int | None, typer.Option(help="Input rows in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Input columns in pixels.")] = None,
    stripes: Annotated[str | None, typer.Option(help="Stripes of each scale, for example 6,4,2.")] = None,
    block_width: Annotated[int | None, typer.Option(help="Values of one descriptor block.")] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="imagenet, none, or a file (torchvision naming).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the anchors.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, over all processes.")] = None,
    batch_sample: Annotated[int | None, typer.Option(help="Images an identity in a batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the head.")] = None,
    base_lr: Annotated[float | None, typer.Option(help="Learning rate of the backbone.")] = None,
    decay_schedule: Annotated[str | None, typer.Option(help="Epochs after which the rates fall, e.g. 40,60.")] = None,
    staircase_factor: Annotated[float | None, typer.Option(help="What they are multiplied by.")] = None,
    warm_up_epochs: Annotated[float | None, typer.Option(help="Epochs of linear rise.")] = None,
    cosine: Annotated[bool | None, typer.Option("--cosine/--staircase", help="Shape of the decay.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Momentum of SGD.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of SGD.")] = None,
    margin: Annotated[float | None, typer.Option(help="Margin of the triplet loss.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Of the cross entropies.")] = None,
    flip: Annotated[float | None, typer.Option(help="Probability of mirroring.")] = None,
    erase: Annotated[float | None, typer.Option(help="Probability of random erasing.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches a step.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest gradient norm; 0 is off.")] = None,
    amp: Annotated[str | None, typer.Option(help="none, bf16 or fp16.")] = None,
    channels_last: Annotated[bool | None, typer.Option("--channels-last/--channels-first")] = None,
    compile_: Annotated[bool | None, typer.Option("--compile/--eager", help="torch.compile the network.")] = None,
    sync_bn: Annotated[bool | None, typer.Option("--sync-bn/--local-bn", help="Batch norm over all processes.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs; 0 is the CPU; more than 1 needs torchrun.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Decoding processes.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 0 leaves it to PyTorch.")] = None,
    val_every: Annotated[int | None, typer.Option(help="Epochs between validations.")] = None,
    print_freq: Annotated[int | None, typer.Option(help="Steps between progress lines.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, sampling, augmentation.")] = None,
) -> None:
    given = dict(locals())
    flags = {name: value for name, value in given.items() if name not in ("preset", "config", "resume", "overwrite")}
    flags["compile"] = flags.pop("compile_")
    for name in ("stripes", "decay_schedule"):
        flags[name] = _whole_numbers(name, flags[name])
    require("rrid_train.loop", "train", "training")
    from rrid_train.config import TrainConfig, make_config
    from rrid_train.loop import train as run

    if resume is not None:
        others = [name for name, value in flags.items() if value is not None]
        if others or config is not None:
            raise UsageError(
                f"--resume takes every setting from the run: leave out --{(others or ['config'])[0].replace('_', '-')}"
            )
        best = run(TrainConfig(exp_dir=str(resume)), resume=True)
    else:
        settings = make_config(preset, config, flags)
        if not settings.dataset_path:
            raise UsageError("no dataset: give --dataset-path FOLDER, for example one made by rrid-edge demo-data demo")
        best = run(settings, overwrite=overwrite)
    say(f"next: rrid-edge export {best}")
    print(best)


def _whole_numbers(name: str, text: object) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in str(text).replace(" ", "").split(",") if part)
    except ValueError as error:
        flag = name.replace("_", "-")
        raise UsageError(
            f"--{flag} {text!r} does not work: expected whole numbers with commas, for example 40,60"
        ) from error
