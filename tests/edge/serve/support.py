"""Services for tests: galleries of drawn crops, computed by ``FakeEngine``."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from rrid_edge.engines.base import Engine
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.opening import Location, create_store, location_of
from rrid_edge.gallery.shared import refuse_foreign
from rrid_edge.model.spec import ModelSpec
from rrid_edge.serve.app import create_app
from rrid_edge.serve.server import ServiceServer
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings
from support.pictures import save_crops

SPEC = fake_spec(block_width=4)


class FakeModels:
    """Models without files: an engine of each gallery's own spec, or one that a test gives.

    Args:
        engine: of all galleries; None makes a ``FakeEngine`` per gallery.
    """

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine
        self._specs: dict[Path, ModelSpec] = {}

    def choose(self, location: Location, store: GalleryStore) -> Path:
        if self._engine is not None:
            refuse_foreign(store.where, store.spec, self._engine.spec)
        model = Path(f"{store.spec.fingerprint[:12]}.onnx")
        self._specs[model] = store.spec
        return model

    def open(self, model: Path) -> Engine:
        return self._engine or FakeEngine(self._specs[model])


def make_gallery(folder: Path, crops: int = 12, spec: ModelSpec = SPEC) -> Path:
    """Draw crops of four people and three cameras (Market-1501 names) and index them; returns the folder."""
    save_crops(folder, crops)
    return indexed(folder, spec)


def indexed(folder: Path, spec: ModelSpec = SPEC) -> Path:
    """Bring the gallery of a folder in step with it; returns the folder."""
    with create_store(location_of(folder), spec) as store, FakeEngine(spec) as engine:
        index_folder(folder, store, engine, IndexSettings(workers=1, batch=16))
    return folder


@contextlib.contextmanager
def service_on(
    tmp_path: Path,
    galleries: Mapping[str, int] | None = None,
    *,
    engine: Engine | None = None,
    **settings: Any,
) -> Iterator[Service]:
    """A service whose engines are open.

    Args:
        tmp_path: the galleries become its folders, where they do not exist yet.
        galleries: number of crops by name.
        engine: of all galleries; None makes a ``FakeEngine``.
        settings: of :class:`ServeSettings`.
    """
    folders = [tmp_path / name for name in galleries or {"gallery": 12}]
    for folder, crops in zip(folders, (galleries or {"gallery": 12}).values(), strict=True):
        if not folder.exists():
            make_gallery(folder, crops)
    with Service(ServeSettings(tuple(map(str, folders)), **settings), FakeModels(engine)) as service:
        for worker in service.workers.values():
            worker.wait_until_open(10)
        yield service


@contextlib.contextmanager
def client(service: Service, **options: Any) -> Iterator[TestClient]:
    """A client that calls the application in this process; ``options`` go to it."""
    options.setdefault("base_url", "http://127.0.0.1")
    with TestClient(create_app(service), **options) as found:
        yield found


@contextlib.contextmanager
def running(service: Service) -> Iterator[str]:
    """Serve on a free port of the loopback; gives the address, such as ``http://127.0.0.1:40001``."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio sends small answers at once on such sockets only
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = ServiceServer(service)
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    try:
        until = time.monotonic() + 10
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}{service.settings.root_path}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def crop_files(folder: Path, count: int = 1) -> list[tuple[str, tuple[str, bytes, str]]]:
    """The first files of a folder as multipart fields of ``POST /search``."""
    files = sorted(folder.glob("*.jpg"))[:count]
    return [("images", (file.name, file.read_bytes(), "image/jpeg")) for file in files]


def problem(answer: Any, status: int, *words: str) -> None:
    """Assert an answer that refuses: the status, one line as problem+json that has ``words``."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["type"] == "about:blank"
    assert "\n" not in found["detail"]
    for word in words:
        assert word in found["detail"], found["detail"]
