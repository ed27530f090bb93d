"""Kills a service under load with SIGKILL, and checks its gallery and its book after each kill.

Clients search, push, label and forget, each at its own pace. What the service acknowledged before the kill must hold
after it. The test suite kills a few times; ``python tools/kill_serve.py 100`` kills 100 times.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx

from edge.serve.support import FakeModels, make_gallery
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.people.book import PeopleBook
from rrid_edge.serve.server import serve
from rrid_edge.serve.service import Service
from rrid_edge.serve.settings import ServeSettings

_START_S = 20.0
_PUSHERS = 2
_AUDITED = ("forget", "label")


class _Load:
    """The clients of one service, and what was acknowledged to them."""

    def __init__(self, port: int, folder: Path, run: int) -> None:
        self._pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:8]]
        self._port, self._run = port, run
        self._stops = threading.Event()
        self._turn = threading.Lock()
        self.pushed: dict[str, int] = {}
        self.forgotten: set[int] = set()
        self.unsure: set[int] = set()
        self.labelled: dict[str, tuple[str, list[int]]] = {}
        self._taken: set[int] = set()
        self.answers = Counter[str]()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the clients ask while the block runs."""
        jobs: list[Callable[[httpx.Client, int], None]] = [self._search, self._label, self._forget]
        jobs += [self._push] * _PUSHERS
        threads = [threading.Thread(target=self._ask, args=(job, number)) for number, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stops.set()
            for thread in threads:
                thread.join()

    def wait_for(self, answers: int) -> None:
        """Wait until so many answers came."""
        until = time.monotonic() + _START_S
        while self.answers.total() < answers:
            assert time.monotonic() < until, f"only {self.answers}"
            time.sleep(0.001)

    def _ask(self, job: Callable[[httpx.Client, int], None], number: int) -> None:
        turn = number
        with client_of(self._port) as client:
            while not self._stops.is_set():
                turn += 10
                with contextlib.suppress(httpx.TransportError):  # it was killed
                    job(client, turn)

    def _count(self, kind: str, answer: httpx.Response) -> bool:
        """Whether it was done; anything but success and a refusal that says so is an error."""
        assert answer.status_code in (200, 201, 404, 409, 422, 429, 503), (kind, answer.status_code, answer.text)
        self.answers[f"{kind} {answer.status_code}"] += 1
        return answer.is_success

    def _search(self, client: httpx.Client, turn: int) -> None:
        picture = self._pictures[turn % len(self._pictures)]
        self._count("search", client.post("/search", files={"images": ("q.jpg", picture, "image/jpeg")}))

    def _push(self, client: httpx.Client, turn: int) -> None:
        key = f"{self._run}-{turn}"
        answer = push(client, self._pictures[0], key)
        if self._count("push", answer):
            with self._turn:
                self.pushed[key] = answer.json()["id"]

    def _label(self, client: httpx.Client, turn: int) -> None:
        crops = self._ours(2)
        if len(crops) < 2:
            return
        name = f"person {self._run} {turn}"
        answer = client.post("/people", json={"name": name, "crops": crops})
        if self._count("label", answer):
            with self._turn:
                self.labelled[answer.json()["id"]] = name, crops

    def _forget(self, client: httpx.Client, _turn: int) -> None:
        """Forget every third person. Who is being forgotten at the kill may be there or not."""
        time.sleep(0.02)
        with self._turn:
            person = next((one for one in self.labelled if int(one[1:]) % 3 == 0), None)
            crops = [] if person is None else self.labelled.pop(person)[1]
            self.unsure.update(crops)
        if crops and self._count("forget", client.delete(f"/people/{person}")):
            with self._turn:
                self.forgotten.update(crops)

    def _ours(self, count: int) -> list[int]:
        """Pushed crops that no client has labelled or forgotten. Each is handed out once."""
        with self._turn:
            free = [crop for crop in self.pushed.values() if crop not in self._taken]
            self._taken.update(free[:count] if len(free) >= count else ())
            return free[:count]


def client_of(port: int) -> httpx.Client:
    """A client of the API. Without certificates it is made in no time."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, verify=False)


def push(client: httpx.Client, picture: bytes, key: str) -> httpx.Response:
    """Push a picture of its own content: what comes after the end of a JPEG is not decoded."""
    image = {"image": ("c.jpg", picture + key.encode(), "image/jpeg")}
    return client.post("/crops", files=image, data={"track": key}, headers={"Idempotency-Key": key})


def _serve(folder: Path, port: int) -> None:
    settings = ServeSettings((str(folder),), port=port)
    with socket.socket() as listener, Service(settings, FakeModels()) as service:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        serve(service, listener)


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[tuple[int, Any]]:
    """A service in a process of its own, which is killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = get_context("fork").Process(target=_serve, args=(folder, port))
    process.start()
    try:
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError), client_of(port) as client:
                if client.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.02)
        yield port, process
    finally:
        process.kill()
        process.join()


def kill_and_check(root: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill a service so many times under load; return the number of answers by kind and status.

    Checks after each kill that the gallery verifies before anything is repaired, that acknowledged pushes, labels and
    forgettings hold, and that the next service takes all of it up.
    """
    folder, generator, answers = make_gallery(root / "gallery", 12), random.Random(seed), Counter[str]()
    for run in range(kills):
        with _service(folder) as (port, process):
            load = _Load(port, folder, run)
            with load.running():
                load.wait_for(generator.randint(5, 60))
                time.sleep(generator.uniform(0, 0.02))
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL
        answers += load.answers
        try:
            _check(folder, load)
        except AssertionError as error:
            raise AssertionError(f"kill {run} of seed {seed}") from error
    return answers


def _check(folder: Path, load: _Load) -> None:
    index = folder / ".rrid-edge"
    with LocalGallery(index) as gallery:
        report = gallery.verify()
        assert report.sound, report
        rows = {row.id: row for row in gallery.rows()}
    kept = {key: crop for key, crop in load.pushed.items() if crop not in load.unsure}
    for key, crop in kept.items():
        assert rows[crop].track == key, f"push {key} is lost"
    assert not load.forgotten & set(rows)
    lines = [json.loads(line) for line in (index / "audit.jsonl").read_text("utf-8").splitlines()]
    told = {
        command: {crop for line in lines if line["command"] == command for crop in line["ids"]} for command in _AUDITED
    }
    assert load.forgotten <= told["forget"]
    assert {crop for _, crops in load.labelled.values() for crop in crops} <= told["label"]
    with PeopleBook.at(index) as book:
        book.verdicts()
    with _service(folder) as (port, _), client_of(port) as client:
        for name, crops in load.labelled.values():
            for crop in crops:
                assert client.get(f"/crops/{crop}").json()["person"]["name"] == name
        for key, crop in list(kept.items())[:3]:  # the same push is answered with the crop that is there
            answer = push(client, sorted(folder.glob("*.jpg"))[0].read_bytes(), key)
            assert (answer.status_code, answer.json()["id"]) == (201, crop)
