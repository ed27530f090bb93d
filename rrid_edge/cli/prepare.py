"""``rrid-edge prepare``: convert a public dataset, or your own crops, to the layout that training reads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, require, say, show
from rrid_edge.cli.completion import one_of
from rrid_edge.errors import UnexpectedError, UsageError, printable

if TYPE_CHECKING:
    from rrid_train.data.layout import Dataset
    from rrid_train.data.writing import LeftOut


@app.command(
    epilog="Example: rrid-edge prepare market1501 Market-1501-v15.09.15 data/market1501",
    help="Convert a dataset to the RRID layout. The original is a public dataset as its authors distribute it, or your "
    "own crops in one folder per person. Prints the first people, and the people and images of each subset.",
)
def prepare(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="market1501, dukemtmc, cuhk03, msmt17, viper, prid2011, cuhk01 or folders.",
            autocompletion=one_of("market1501 dukemtmc cuhk03 msmt17 viper prid2011 cuhk01 folders"),
        ),
    ],
    raw: Annotated[Path, typer.Argument(help="Folder of the original, or CUHK03's cuhk-03.mat.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    images: Annotated[
        str | None,
        typer.Option(
            help="CUHK03: labeled or detected boxes. PRID 2011: single or multi. [default: labeled, single]",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="CUHK03: use old (20 splits), new (767/700), or auto: new if its lists lie next to the .mat.",
            autocompletion=one_of("auto old new"),
        ),
    ] = "auto",
    pattern: Annotated[
        str,
        typer.Option(
            help="Folders: find the camera in names by auto (c2, cam2, camera_2), none (one camera), a preset, or a "
            "regular expression with a group (?P<camera>...)."
        ),
    ] = "auto",
    layout: Annotated[
        str,
        typer.Option(
            help="Folders: person-first (person/camera), camera-first (camera/person), or auto: person-first, but "
            "refuse what looks camera-first.",
            autocompletion=one_of("auto person-first camera-first"),
        ),
    ] = "auto",
    test_share: Annotated[float, typer.Option(help="Folders: draw this share of the people for testing.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Folders and two-camera sets: seed the draw of test people.")] = 0,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links that lead out of the original's folder.")
    ] = False,
    leave_out_damaged: Annotated[
        bool, typer.Option("--leave-out-damaged", help="Write the dataset without images that cannot be read.")
    ] = False,
    split: Annotated[int, typer.Option(help="Print the table of this split, counted from 0.")] = 0,
    num_val: Annotated[float, typer.Option(help="Hold out this share (below 1) or count in the table.")] = 0.3,
    combine_trainval: Annotated[bool, typer.Option("--combine-trainval", help="Hold nobody out in the table.")] = False,
    as_json: JsonOption = False,
) -> None:
    require("rrid_train.data.prepare", "train", "preparing a dataset")
    from rrid_train.data.folders import FolderSettings
    from rrid_train.data.layout import held_out, load_dataset
    from rrid_train.data.plan import describe_people
    from rrid_train.data.prepare import PrepareSettings, plan_dataset
    from rrid_train.data.writing import write_plan

    folders = FolderSettings(pattern=pattern, test_share=test_share, seed=seed, layout=layout)
    settings = PrepareSettings(images, protocol, folders, follow_links)
    with contextlib.ExitStack() as stack:
        plan = plan_dataset(raw, kind, settings, stack)
        say(describe_people(plan))
        for remark in plan.remarks:
            say(remark)
        _refuse_split(split, len(plan.splits))
        held_out(0 if combine_trainval else num_val, len(plan.splits[split].trainval))
        with ProgressBar("copying") as bar:
            written = write_plan(plan, out, leave_out_damaged=leave_out_damaged, progress=bar)
    data = load_dataset(out, split=split, num_val=0 if combine_trainval else num_val)
    _say_measurable(data, out)
    if as_json:
        left_out = [{"file": image.file, "reason": image.reason} for image in written.left_out]
        facts = {"dataset": str(out), "name": data.name, "splits": len(plan.splits), "subsets": data.counts()}
        print_json({**facts, "left_out": left_out})
    else:
        show(f"{printable(out)}: {data.name}, {written.images:,} images, {len(plan.splits)} split(s)")
        print(data.table())
        say(f"next: rrid-edge train --dataset-path {printable(out)}")
    _report(written.left_out, out)


def _say_measurable(data: Dataset, out: Path) -> None:
    """Say what training and evaluation can measure."""
    if data.val_query:
        say(data.measurable("val").describe("val query"))
    test = data.measurable()
    say(test.describe())
    if not test.ranking and data.measurable(same_camera=True).ranking:
        say(f"measure within one camera with: rrid-edge evaluate MODEL --dataset {printable(out)} --same-camera")


def _report(left_out: Sequence[LeftOut], out: Path) -> None:
    """Say which images are missing.

    Raises:
        UnexpectedError: nobody foresaw why. The dataset was written without them.
    """
    for image in left_out:
        say(f"left out {image.file}: {image.reason}")
    if left_out:
        say(f"left out: {len(left_out)} damaged image(s); results are not comparable with those of the whole dataset")
    odd = [image for image in left_out if not image.foreseen]
    if odd:
        raise UnexpectedError(
            f"{printable(out)}: written without {len(odd)} image(s), because of an error that nobody foresaw, the "
            f"first is {odd[0].file} ({odd[0].reason}); report this, and replace these files"
        )


def _refuse_split(split: int, count: int) -> None:
    if not 0 <= split < count:
        raise UsageError(f"--split {split} does not exist; expected 0 to {count - 1}")
