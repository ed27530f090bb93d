"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", help="Model file; else RRID_EDGE_MODEL, the gallery's own, or the best in models/."),
]
RuntimeOption = Annotated[
    str, typer.Option(help="auto, tensorrt, onnxruntime-cuda, openvino (-gpu, -npu: Intel's) or onnxruntime.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="Arithmetic to force on OpenVINO: fp32, bf16 or fp16; its own choice otherwise.")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="CPU threads; 0 lets the runtime choose.")]
GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery",
        help="Where the index lies, if not in FOLDER/.rrid-edge: a folder, or milvus+http://HOST:19530/COLLECTION.",
    ),
]
IndexTypeOption = Annotated[
    str,
    typer.Option("--index-type", help="Of a new gallery in Milvus: flat (exact), ivf, hnsw or diskann (for --fast)."),
]
ReplicasOption = Annotated[
    int, typer.Option("--replicas", min=0, help="Of a new gallery in Milvus: copies in memory; 2 survive a query node.")
]
PatternOption = Annotated[
    str,
    typer.Option(help="What names tell: auto, market1501, dukemtmc, cuhk03, rrid, none, or a regular expression."),
]
