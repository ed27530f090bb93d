"""``rrid-edge demo-data``: a small dataset of drawn people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, show


@app.command("demo-data", epilog="Example: rrid-edge demo-data demo --seed 7 --people 60")
def demo_data(
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty, or an earlier demo.")],
    seed: Annotated[int, typer.Option(help="Seed the drawing; equal settings give equal bytes.")] = 0,
    people: Annotated[
        int,
        typer.Option(help="Draw so many people; a third of them are for testing, with --junk or --distractors half."),
    ] = 120,
    cameras: Annotated[int, typer.Option(help="Show people in so many cameras.")] = 6,
    images_per_camera: Annotated[
        int,
        typer.Option(
            help="Draw so many images per person and camera; with --junk or --distractors 1 to twice so many, and "
            "people miss some cameras."
        ),
    ] = 3,
    junk: Annotated[
        bool, typer.Option("--junk", help="Add bad boxes of test people to the gallery, label -1.")
    ] = False,
    distractors: Annotated[
        bool, typer.Option("--distractors", help="Add strangers and false detections to the gallery, label 0.")
    ] = False,
    label_noise: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Give this share of the images a wrong person or camera; default 0.005 with --junk or --distractors, "
            "otherwise 0.",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Draw a small dataset, a gallery and query images.

    The people are drawn, and near-twins differ in one part only, for example a bag or shoes. A network trained on them
    works for drawn people only. With --junk or --distractors the dataset is as hard as a real benchmark: groups in the
    same clothes, loose boxes, passers-by, dim light, blur.
    """
    from rrid_train.demo.synthetic import DemoConfig, write_demo_data

    config = DemoConfig(
        seed=seed,
        people=people,
        cameras=cameras,
        images_per_camera=images_per_camera,
        junk=junk,
        distractors=distractors,
        label_noise=label_noise,
    )
    with ProgressBar("drawing") as bar:
        summary = write_demo_data(out, config, progress=bar)
    if json_output:
        print_json(
            {**{"near_twins" if k == "twins" else k: v for k, v in asdict(summary).items()}, "root": str(summary.root)}
        )
        return
    show(f"{out}: {summary.images} images, {people} people, {cameras} cameras, {summary.twins} pairs of near-twins")
    show(f"{summary.training_people} people to train on, {summary.test_people} other people to test on")
    if config.benchmark:
        show(
            f"{summary.junk} junk crops, {summary.distractors} distractors, {summary.wrong_labels} wrong labels, "
            f"{summary.groups} groups in the same clothes"
        )
    show(f"{out / 'gallery'}: {summary.gallery_images} crops")
    show(f"{out / summary.query_file} shows {summary.query_shows}")
