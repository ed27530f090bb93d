"""Tests of ``rrid-edge serve``: what it refuses, what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import pytest

from edge.serve.support import make_gallery
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import ModelFileError
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.serve import models, server
from support.commands import refused, rrid_edge
from support.onnx_models import save_tiny_model

TOKEN, LATER = "a-token-of-16-letters", "another-token-of-more-letters"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A gallery of 6 crops of the tiny model, which lies beside it."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "rrid.onnx")
    make_gallery(folder / "crops", 6)
    assert rrid_edge("index", folder / "crops", "--model", folder / "rrid.onnx", "--rebuild").code == 0
    return folder / "crops"


class Steps(threading.Thread):
    """What happens in another thread while the command serves in this one. The command is stopped at the end."""

    def __init__(self, steps):
        super().__init__()
        self.port, self.failure = free_port(), None
        self._steps = steps

    def run(self):
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200:
                        break
                time.sleep(0.02)
            self._steps(f"http://127.0.0.1:{self.port}")
        except BaseException as error:
            self.failure = error
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def serve(self, *arguments):
        """The outcome of the command."""
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a command that refuses is gone before the signal
        try:
            self.start()
            outcome = rrid_edge("serve", *arguments, "--port", self.port)
            self.join(30)
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.failure is not None:
            raise self.failure
        return outcome


def query(gallery):
    file = sorted(gallery.glob("*.jpg"))[0]
    return [("images", (file.name, file.read_bytes()))]


def test_it_serves_prints_its_address_and_ends_with_code_0(gallery):
    found: dict[str, Any] = {}

    def steps(address):
        while httpx.get(f"{address}/readyz").status_code != 200:
            time.sleep(0.02)
        found["page"] = httpx.get(f"{address}/").status_code
        found["answer"] = httpx.post(f"{address}/api/v1/search", files=query(gallery)).json()

    running = Steps(steps)
    outcome = running.serve(gallery, "--log", "json")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [f"serving http://127.0.0.1:{running.port}/"]
    assert found["page"] == 200
    assert len(found["answer"]["matches"]) == 6
    first, start, *logged, last = map(json.loads, outcome.err.splitlines())
    assert (first["event"], first["gallery"]) == ("gallery", "crops")
    assert first["message"].startswith("gallery crops: ")
    assert (start["event"], start["address"]) == ("start", f"http://127.0.0.1:{running.port}/")
    assert (last["event"], last["message"]) == ("stop", "stopped; requests that ran are answered")
    assert {"/api/v1/search", "/readyz"} <= {line.get("route") for line in logged}


def test_the_log_names_the_folders_that_are_followed(gallery):
    running = Steps(lambda _address: None)
    outcome = running.serve(gallery, "--watch", "--log", "json")
    first = json.loads(outcome.err.splitlines()[0])
    assert (outcome.code, first["follows"]) == (0, str(gallery))
    assert first["message"].endswith(f"model {gallery.parent / 'rrid.onnx'}, follows {gallery}")


class SlowEngine(FakeEngine):
    """Takes half a second per call."""

    entered = threading.Event()

    def run(self, images):
        self.entered.set()
        time.sleep(0.5)
        return super().run(images)


def test_a_signal_lets_running_requests_end(gallery, monkeypatch):
    monkeypatch.setattr(models.ModelFiles, "open", lambda self, _model: SlowEngine(_spec(gallery)))
    SlowEngine.entered.clear()
    answers = []

    def ask(address):
        answers.append(httpx.post(f"{address}/api/v1/embed", files=query(gallery), timeout=20).status_code)

    asking = []

    def steps(address):
        asking.append(threading.Thread(target=ask, args=(address,)))
        asking[0].start()
        assert SlowEngine.entered.wait(10)

    assert Steps(steps).serve(gallery).code == 0
    asking[0].join(10)
    assert answers == [200]


def _spec(gallery):
    return read_spec(gallery.parent / "rrid.onnx")


def test_open_streams_do_not_hold_the_end_up(gallery):
    start = []

    def steps(address):
        def follow():
            with contextlib.suppress(httpx.TransportError), httpx.stream("GET", f"{address}/api/v1/events") as answer:
                for _ in answer.iter_bytes():
                    pass

        threading.Thread(target=follow, daemon=True).start()
        time.sleep(0.3)
        start.append(time.monotonic())

    assert Steps(steps).serve(gallery).code == 0
    assert time.monotonic() - start[0] < 6  # its grace is 8 s


def test_a_token_file_is_read_again_at_sighup(gallery, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"read {TOKEN}\n")
    file.chmod(0o600)
    codes = []

    def asked(address, token):
        return httpx.get(f"{address}/api/v1/galleries", headers={"authorization": f"Bearer {token}"}).status_code

    def steps(address):
        codes.extend([asked(address, TOKEN), asked(address, LATER)])
        file.write_text(f"read {LATER}\n")
        os.kill(os.getpid(), signal.SIGHUP)
        until = time.monotonic() + 10
        while asked(address, LATER) != 200 and time.monotonic() < until:
            time.sleep(0.05)
        codes.extend([asked(address, LATER), asked(address, TOKEN)])
        file.write_text("nonsense\n")
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.3)
        codes.append(asked(address, LATER))

    outcome = Steps(steps).serve(gallery, "--token-file", file)
    assert outcome.code == 0
    assert codes == [200, 401, 200, 401, 200]
    assert "the token file was not read again: " in outcome.err


def test_an_engine_that_cannot_be_opened_ends_it_with_its_line(gallery, monkeypatch):
    def fail(_self, model):
        raise ModelFileError(f"{model.name}: damaged; export it again")

    monkeypatch.setattr(models.ModelFiles, "open", fail)
    refused(rrid_edge("serve", gallery, "--port", 0), 4, "rrid.onnx: damaged; export it again")


def test_an_arithmetic_that_the_runtime_lacks_ends_it(gallery):
    refused(rrid_edge("serve", gallery, "--port", 0, "--precision", "fp64"), 2, "fp64", "option --precision")


@pytest.fixture
def _never_serves(monkeypatch):
    """Fail instead of serving until somebody stops it."""

    def fail(*_arguments):
        raise AssertionError("it serves")

    monkeypatch.setattr(server.ServiceServer, "run", fail)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], ["without a token file", "option --host, option --token-file"]),
        (["--host", "::"], ["without a token file"]),
        (["--host", "example.invalid"], ["without a token file"]),
        (["--port", "65536"], ["option --port"]),
        (["--max-upload", "20 parsecs"], ["20MiB", "option --max-upload"]),
        (["--max-upload", "0"], ["option --max-upload"]),
        (["--max-upload", "2GiB"], ["option --max-upload"]),
        (["--queue", "0"], ["option --queue"]),
        (["--log", "xml"], ["text, json", "option --log"]),
        (["--root-path", "reid"], ["such as /reid", "option --root-path"]),
        (["--root-path", "/a//b"], ["option --root-path"]),
        (["--root-path", "/a?b"], ["option --root-path"]),
        (["--root-path", "/../b"], ["option --root-path"]),
        (["--watch", "--read-only"], ["option --read-only, option --watch"]),
        (["--model", "none.onnx"], ["no such model file", "option --model"]),
        (["--token-file", "none"], ["option --token-file"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else None,
)
@pytest.mark.usefixtures("_never_serves")
def test_options_that_cannot_be_used(gallery, options, words):
    port = [] if "--port" in options else ["--port", 0]
    refused(rrid_edge("serve", gallery, *options, *port), 2, *words)


@pytest.mark.usefixtures("_never_serves")
def test_a_taken_port_is_named(gallery):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(rrid_edge("serve", gallery, "--port", port), 2, f"port {port} of 127.0.0.1 is taken", "option --port")


@pytest.mark.usefixtures("_never_serves")
def test_an_address_of_another_machine_is_refused(gallery, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"read {TOKEN}\n")
    file.chmod(0o600)
    options = ["--host", "192.0.2.1", "--token-file", file, "--port", 0]
    refused(rrid_edge("serve", gallery, *options), 2, "192.0.2.1 is no address of this machine", "option --host")


@pytest.mark.usefixtures("_never_serves")
def test_galleries_that_cannot_be_served(gallery, tmp_path):
    refused(rrid_edge("serve", tmp_path, "--port", 0), 4, "no index here", "rrid-edge index")
    refused(rrid_edge("serve", tmp_path / "none", "--port", 0), 4, "no index here")
    refused(rrid_edge("serve", gallery, gallery, "--port", 0), 2, "given twice", "argument GALLERY...")
    other = save_tiny_model(tmp_path / "other.onnx", fake_spec("another network"))
    refused(rrid_edge("serve", gallery, "--model", other, "--port", 0), 4, "model")


def test_without_the_extra_the_line_says_how_to_get_it(gallery):
    code = "import sys; sys.modules['uvicorn'] = None; from rrid_edge.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "serve", gallery], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "'uvicorn'" in done.stderr
    assert "pip install 'rrid-edge[serve]'" in done.stderr
