"""``rrid-edge adopt``: a network of another program becomes a model of this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.card_steps import CardOption, LicenceOption, check_card, write_card
from rrid_edge.cli.common import JsonOption, print_json, require, say, show
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.hub_files import network_file
from rrid_edge.cli.options import FollowLinksOption
from rrid_edge.errors import UsageError, printable

if TYPE_CHECKING:
    from rrid_export.adopt.pipeline import AdoptResult


@app.command(
    epilog="Example: rrid-edge adopt osnet_x0_25.onnx --preset torchreid --crops crops/",
    help="Make a model of a person re-ID network of another program. The ONNX file that it writes takes uint8 pixels, "
    "returns descriptors of unit length, and has the network's preprocessing inside. It is written only if it agrees "
    "with the original at several batch sizes. What the network is fed comes from a preset or from its card.",
)
def adopt(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="ONNX file or OpenVINO IR (.xml) of a re-ID network, or its address on the Hugging Face hub: "
            "hf://OWNER/REPO[@REVISION]/FILE.onnx."
        ),
    ],
    folder: Annotated[Path, typer.Option("--folder", "-o", help="Folder to write to.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="Name of the written files; default: that of MODEL.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Take the facts of a family: torchreid, fastreid, omz-retail, tao-reid, boxmot or yolo-reid. Other "
            "options win over it.",
            autocompletion=one_of("torchreid fastreid omz-retail tao-reid boxmot yolo-reid"),
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Rows x columns of the input, such as 256x128, if the file does not fix them.")
    ] = None,
    color: Annotated[
        str | None, typer.Option(help="Order of the network's channels: rgb or bgr.", autocompletion=one_of("rgb bgr"))
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Divide pixels by this: 255 for networks that take 0 to 1, else 1.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Subtract these from the channels after that, such as 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Divide the channels by these after that, such as 0.229,0.224,0.225.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Order of the input's axes: nchw or nhwc; default: as the file tells.")
    ] = None,
    normalise: Annotated[
        str | None, typer.Option(help="l2, or none if the network's output has unit length already. [default: l2]")
    ] = None,
    input_: Annotated[str | None, typer.Option("--input", help="Name of the network's input.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", help="Name of the output with the descriptors, if there are several.")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            show_default=False,
            help="Average each image with its mirror. It is another network then. [default: no-flip]",
        ),
    ] = None,
    suggest: Annotated[
        Path | None,
        typer.Option(
            help="Write nothing: try the usual preprocessing on this folder of labelled crops, or on a dataset's test "
            "split, and print the command for each, best first. Facts that are given are not varied."
        ),
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Folder of real crops for the proof and the goldens; default: drawn patterns.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Read names of crops as auto, market1501, dukemtmc, cuhk03, rrid, person-folders, camera-folders, "
            "folders, none, or a regular expression. [default: auto]",
            show_default=False,
        ),
    ] = None,
    follow_links: FollowLinksOption = False,
    golden_crops: Annotated[
        int, typer.Option(min=2, max=10_000, help="Largest number of crops for the goldens.")
    ] = 256,
    training_data: Annotated[
        str, typer.Option(help="Name of the data that the network was trained on, for its metadata and card.")
    ] = "unknown",
    card: CardOption = False,
    licence: LicenceOption = None,
    as_json: JsonOption = False,
) -> None:
    from rrid_export.adopt.facts import Choices
    from rrid_export.adopt.foreign import NETWORKS, read_foreign

    choices = Choices(
        preset=preset,
        size=_size(size),
        color=color,
        scale=scale,
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        layout=layout,
        normalise=normalise,
        input=input_,
        output=output,
        flip=bool(flip),
    )
    check_card(card, licence, folder)
    path, origin = network_file(context, model, NETWORKS, sidecar=preset == "boxmot")
    network = read_foreign(path, input_name=input_, output_name=output)
    require("rrid_export.adopt.pipeline", "adopt", "adopting a network")
    from rrid_export.adopt.pipeline import AdoptSettings, adopt_network

    if suggest is not None:
        from rrid_edge.cli.adopt_suggest import suggest_preprocessing
        from rrid_export.adopt.labelled import labelled_files
        from rrid_export.adopt.suggest import SuggestSettings

        names = {"--folder": folder, "--name": name, "--crops": crops or suggest, "--pattern": pattern}
        kept: dict[str, object] = names | {"--follow-links": follow_links or None, "--licence": licence}
        kept |= {"--training-data": training_data if training_data != "unknown" else None, "--card": card or None}
        files = labelled_files(suggest, pattern, follow_links=follow_links)
        suggest_preprocessing(network, SuggestSettings(files, choices, flip), (model, kept), as_json=as_json)
        return
    settings = AdoptSettings(choices, name, crops, golden_crops, origin, training_data, pattern or "auto", follow_links)
    result = adopt_network(network, folder, settings)
    written = write_card(result.model, licence, drawn=crops is None, quiet=as_json) if card else None
    _report(result, written, as_json=as_json, drawn=crops is None)


def _report(result: AdoptResult, card: str | None, *, as_json: bool, drawn: bool) -> None:
    """Print what was written."""
    spec, preprocessing = result.spec, result.spec.preprocessing
    for line in result.left_out:
        say(f"left out {line}")
    for line in result.parity.undecided:
        say(f"{printable(result.model)}: parity is not decided: {line}")
    for line in result.remarks:
        say(f"{printable(result.model)}: {line}")
    if as_json:
        facts = {"model": str(result.model), "goldens": str(result.goldens), "fingerprint": spec.fingerprint}
        facts |= {"origin": spec.origin} | ({"card": card} if card else {})
        parity, sample = result.parity.to_dict(), result.sample.to_dict()
        print_json({**facts, "remarks": list(result.remarks), "parity": parity, "sample": sample})
        return
    agreement = result.parity.agreement
    views = "two views" if spec.flip else "one view"
    show(f"{result.model}: {spec.height_px} x {spec.width_px} px, {spec.dimension} values, {views}, {spec.precision}")
    if preprocessing is not None:
        show(f"fed with {preprocessing.describe()}")
    show(
        f"parity with {result.parity.reference} over {agreement.images} images: minimum cosine "
        f"{agreement.min_cosine:.7f} ({result.report})"
    )
    what = "drawn patterns, which prove only the arithmetic; --crops takes real crops"
    show(f"goldens {result.goldens}: {f'{len(result.sample)} {what}' if drawn else result.sample.describe()}")
    show(f"fingerprint {spec.fingerprint[:12]}; next: rrid-edge index gallery/ --model {result.model}")


def _size(text: str | None) -> tuple[int, int] | None:
    """Rows and columns of a text such as ``256x128``."""
    if text is None:
        return None
    rows, _, columns = text.lower().partition("x")
    if not (rows.isascii() and rows.isdigit() and columns.isascii() and columns.isdigit()) or len(text) > 20:
        raise UsageError(f"size {text!r} does not work: expected rows x columns, such as 256x128", parameter="size")
    return int(rows), int(columns)


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{name} {text!r} does not work: expected three numbers, such as 0.485,0.456,0.406", parameter=name
        ) from error
