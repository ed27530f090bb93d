"""``rrid-edge demo-data``: drawn pedestrians to try everything on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json


@app.command("demo-data", epilog="Example: rrid-edge demo-data demo --seed 7 --persons 60")
def demo_data(
    out: Annotated[Path, typer.Argument(help="Folder to write: new, empty, or an earlier demo data set.")],
    seed: Annotated[int, typer.Option(help="The same seed and settings give the same bytes.")] = 0,
    persons: Annotated[int, typer.Option(help="People altogether; a third of them are kept for testing.")] = 120,
    cameras: Annotated[int, typer.Option(help="Cameras; every person is seen by all of them.")] = 6,
    images_per_camera: Annotated[int, typer.Option(help="Shots of each person by each camera.")] = 3,
    json_output: JsonOption = False,
) -> None:
    """Draw a small person re-identification data set: a dataset to train on, a gallery and query images.

    The people are drawn, and some differ from another one in a single part (a bag, shoes, a shirt's colour). A network
    trained on them knows drawn people only.
    """
    from rrid_train.demo.synthetic import DemoConfig, write_demo_data

    config = DemoConfig(seed=seed, persons=persons, cameras=cameras, images_per_camera=images_per_camera)
    with ProgressBar("drawing") as bar:
        summary = write_demo_data(out, config, progress=bar)
    if json_output:
        print_json(
            {
                "root": str(summary.root),
                "training_persons": summary.training_persons,
                "test_persons": summary.test_persons,
                "images": summary.images,
                "gallery_images": summary.gallery_images,
                "near_twins": len(summary.twins),
                "query_person": summary.query_person,
            }
        )
        return
    print(f"{out}: {summary.images} images, {persons} people, {cameras} cameras, {len(summary.twins)} near-twins")
    print(f"training {summary.training_persons} people, test {summary.test_persons} people nobody trains on")
    print(f"{out / 'gallery'}: {summary.gallery_images} crops; {out / 'query.jpg'} shows person {summary.query_person}")
