"""``rrid-edge demo-data``: a small dataset of drawn people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import JsonOption, ProgressBar, print_json, show


@app.command("demo-data", epilog="Example: rrid-edge demo-data demo --seed 7 --persons 60")
def demo_data(
    out: Annotated[Path, typer.Argument(help="Folder to write; new, empty, or an earlier demo.")],
    seed: Annotated[int, typer.Option(help="Seed the drawing; equal settings give equal bytes.")] = 0,
    persons: Annotated[int, typer.Option(help="Draw so many people; a third of them are for testing.")] = 120,
    cameras: Annotated[int, typer.Option(help="Show each person in so many cameras.")] = 6,
    images_per_camera: Annotated[int, typer.Option(help="Draw so many images per person and camera.")] = 3,
    json_output: JsonOption = False,
) -> None:
    """Draw a small dataset, a gallery and query images.

    The people are drawn, and near-twins differ in one part only, for example a bag or shoes. A network trained on them
    works for drawn people only.
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
    show(f"{out}: {summary.images} images, {persons} people, {cameras} cameras, {len(summary.twins)} near-twins")
    show(f"{summary.training_persons} people to train on, {summary.test_persons} other people to test on")
    show(f"{out / 'gallery'}: {summary.gallery_images} crops; {out / 'query.jpg'} shows person {summary.query_person}")
