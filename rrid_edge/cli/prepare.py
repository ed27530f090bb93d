"""``rrid-edge prepare``: convert a public dataset, or your own crops, to the layout that training reads."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_train.data.plan import Plan

KINDS = ("market1501", "dukemtmc", "cuhk03", "folders")


@app.command(
    epilog="Example: rrid-edge prepare market1501 Market-1501-v15.09.15 data/market1501",
    help="Convert a dataset to the RRID layout. The original is a public dataset as its authors distribute it, or your "
    "own crops in one folder per person. Prints the people and images of each subset.",
)
def prepare(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="market1501, dukemtmc, cuhk03 or folders.")],
    raw: Annotated[Path, typer.Argument(help="Folder of the original, or CUHK03's cuhk-03.mat.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    images: Annotated[str, typer.Option(help="CUHK03: use labeled or detected boxes.")] = "labeled",
    protocol: Annotated[
        str,
        typer.Option(
            help="CUHK03: use old (20 splits), new (767/700), or auto: new if its lists lie next to the .mat."
        ),
    ] = "auto",
    pattern: Annotated[
        str,
        typer.Option(
            help="Folders: find the camera in names by auto (c2, cam2, camera_2), none (one camera), a preset, or a "
            "regular expression with a group (?P<camera>...)."
        ),
    ] = "auto",
    test_share: Annotated[float, typer.Option(help="Folders: draw this share of the people for testing.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Folders: seed the draw of test people.")] = 0,
    split: Annotated[int, typer.Option(help="Print the table of this split, counted from 0.")] = 0,
    num_val: Annotated[float, typer.Option(help="Hold out this share (below 1) or count in the table.")] = 0.3,
    combine_trainval: Annotated[bool, typer.Option("--combine-trainval", help="Hold nobody out in the table.")] = False,
    as_json: JsonOption = False,
) -> None:
    require("rrid_train.data.prepare", "train", "preparing a dataset")
    from rrid_train.data.folders import plan_folders
    from rrid_train.data.layout import held_out, load_dataset
    from rrid_train.data.plan import write_plan
    from rrid_train.data.prepare import plan_cuhk03, plan_market

    if kind not in KINDS:
        raise UsageError(f"dataset kind {kind!r} is unknown: expected one of {', '.join(KINDS)}")
    if not raw.exists():
        raise UsageError(f"{printable(raw)}: no such folder; give the folder of the original dataset")
    with contextlib.ExitStack() as stack:
        plan: Plan
        if kind == "cuhk03":
            plan = plan_cuhk03(raw, images, protocol, stack)
        elif kind == "folders":
            plan = plan_folders(raw, pattern=pattern, test_share=test_share, seed=seed)
        else:
            plan = plan_market(raw, kind)
        _refuse_split(split, len(plan.splits))
        held_out(0 if combine_trainval else num_val, len(plan.splits[split].trainval))
        with ProgressBar("copying") as bar:
            write_plan(plan, out, progress=bar)
    data = load_dataset(out, split=split, num_val=0 if combine_trainval else num_val)
    if len({camera for _, camera in plan.labels}) < 2:
        say("all images are from one camera: training works, but evaluation does not, as no query has a right answer")
    if as_json:
        print_json({"dataset": str(out), "name": data.name, "splits": len(plan.splits), "subsets": data.counts()})
        return
    print(f"{printable(out)}: {data.name}, {len(plan.sources):,} images, {len(plan.splits)} split(s)")
    print(data.table())
    say(f"next: rrid-edge train --dataset-path {printable(out)}")


def _refuse_split(split: int, count: int) -> None:
    if not 0 <= split < count:
        raise UsageError(f"--split {split} does not exist; expected 0 to {count - 1}")
