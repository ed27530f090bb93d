"""``rrid-edge serve``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from rrid_edge.cli.app import app
from rrid_edge.cli.common import require, show
from rrid_edge.cli.completion import one_of
from rrid_edge.cli.options import ModelOption, PrecisionOption, RuntimeOption, ThreadsOption
from rrid_edge.errors import UsageError, printable

_UNITS: Final = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_LARGEST_UPLOAD: Final = 1 << 30


@app.command(
    epilog="Example: rrid-edge serve demo/gallery --model demo/models/rrid.onnx",
    help="Serve galleries over HTTP, with a page to search them. Stop it with Ctrl-C or SIGTERM. Without --token-file "
    "it serves this machine only.",
)
def serve(
    galleries: Annotated[
        list[str], typer.Argument(metavar="GALLERY...", help="Indexed folders of crops, or Milvus addresses.")
    ],
    model: ModelOption = None,
    host: Annotated[str, typer.Option(help="Listen at this address; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Listen at this port; 0 takes a free one.")] = 8760,
    token_file: Annotated[
        Path | None,
        typer.Option(help="Ask for a token of this file: ROLE TOKEN [NAME] per line; read, label or admin."),
    ] = None,
    root_path: Annotated[
        str, typer.Option(help="Path under which a proxy serves it, such as /reid.", show_default=False)
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Add new crops of the galleries' folders; needs the extra [watch].")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse everything that changes a gallery.")] = False,
    max_upload: Annotated[str, typer.Option(help="Refuse larger bodies of requests.")] = "20MiB",
    queue: Annotated[int, typer.Option(help="Let this many images wait per model; more get status 429.")] = 64,
    log: Annotated[
        str, typer.Option(help="Write log lines on stderr as text or json.", autocompletion=one_of("text json"))
    ] = "text",
    runtime: RuntimeOption = "auto",
    precision: PrecisionOption = None,
    threads: ThreadsOption = 0,
) -> None:
    from rrid_edge.serve.settings import ServeSettings

    settings = ServeSettings(
        galleries=tuple(galleries),
        model=model,
        host=host,
        port=port,
        token_file=token_file,
        root_path=root_path,
        watch=watch,
        read_only=read_only,
        max_upload_bytes=_bytes(max_upload),
        queue=queue,
        log=log,
        runtime=runtime,
        precision=precision,
        threads=threads,
    )
    require("rrid_edge.serve.server", "serve", "serving galleries")
    from rrid_edge.serve.logs import log_event, logging_to
    from rrid_edge.serve.server import address_of, listen
    from rrid_edge.serve.server import serve as serve_at
    from rrid_edge.serve.service import Service

    with listen(settings) as listener, logging_to(settings.log):
        with Service(settings) as service:
            for name, gallery in service.galleries.items():
                facts = {"gallery": name, "model": str(gallery.model), "fingerprint": gallery.spec.fingerprint}
                line = f"gallery {name}: {gallery.store.where}, model {printable(gallery.model)}"
                if watch:
                    line += f", follows {printable(str(gallery.folder))}"
                    facts["follows"] = str(gallery.folder)
                log_event("gallery", line, **facts)
            serve_at(service, listener, lambda: _tell(address_of(listener, settings)))
        log_event("stop", "stopped; requests that ran are answered")


def _tell(address: str) -> None:
    from rrid_edge.serve.logs import log_event

    show(f"serving {address}")
    sys.stdout.flush()  # programs that start the service wait for it
    log_event("start", f"serving {address}", address=address)


def _bytes(text: str) -> int:
    """The bytes of ``--max-upload``.

    Raises:
        UsageError: it is no size, or a very large one.
    """
    found = re.fullmatch(r"(\d{1,12})\s*([a-z]*)", text.strip().lower(), re.ASCII)
    factor = None if found is None else _UNITS.get(found[2])
    if found is None or factor is None or not 0 < int(found[1]) * factor <= _LARGEST_UPLOAD:
        raise UsageError(
            f"max_upload {printable(text)!r} does not work: expected a size up to 1GiB, such as 20MiB or 500KiB",
            parameter="max_upload",
        )
    return int(found[1]) * factor
