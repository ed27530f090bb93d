"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrid_edge.cli.completion import one_of

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", help="Use this model. [default: RRID_EDGE_MODEL, the gallery's, or the best in models/]"),
]
RuntimeOption = Annotated[
    str,
    typer.Option(
        help="Run on: auto, tensorrt, tensorrt-rtx, onnxruntime-cuda, openvino, openvino-gpu, openvino-npu, "
        "onnxruntime.",
        autocompletion=one_of(
            "auto tensorrt tensorrt-rtx onnxruntime-cuda openvino openvino-gpu openvino-npu onnxruntime"
        ),
    ),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        help="Force OpenVINO's arithmetic: fp32, bf16 or fp16. [default: OpenVINO's choice]",
        autocompletion=one_of("fp32 bf16 fp16"),
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="Take these weights of a file that holds both: ema (averaged) or raw. [default: ema]",
        autocompletion=one_of("ema raw"),
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Use this many CPU threads; 0: the runtime chooses.")]
GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        help="Use this index: a folder or milvus+http://HOST:19530/COLLECTION. [default: FOLDER/.rrid-edge]",
    ),
]
FollowLinksOption = Annotated[
    bool, typer.Option("--follow-links", help="Read links to image files outside the folder too.")
]
IndexTypeOption = Annotated[
    str,
    typer.Option(
        "--index-type",
        help="Milvus, new galleries: build flat, ivf, hnsw or diskann. [default: flat]",
        autocompletion=one_of("flat ivf hnsw diskann"),
    ),
]
ReplicasOption = Annotated[
    int,
    typer.Option(
        "--replicas",
        min=0,
        show_default=False,
        help="Milvus, new galleries: load this many replicas. 2 survive the loss of a query node. [default: 1]",
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        help="Read file names as auto, market1501, dukemtmc, cuhk03, rrid, person-folders, camera-folders, folders, "
        "none, or a regular expression. [default: the gallery's, or auto]",
        show_default=False,
        autocompletion=one_of("auto market1501 dukemtmc cuhk03 rrid person-folders camera-folders folders none"),
    ),
]
