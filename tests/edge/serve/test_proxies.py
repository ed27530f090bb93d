"""The files of ``deploy/proxy`` in the real nginx and Caddy, over TLS, in front of a running service."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge.serve.support import crop_files, running, service_on
from support.pictures import noise

DEPLOY = Path(__file__).resolve().parents[3] / "deploy" / "proxy"
SITE = "reid.example"
TOKEN = "admin-0123456789abcdef"
PATIENCE_S = 20.0
BIG = 20 * 2**20 + 1
HEARTBEAT_S = 15


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _certificate(folder: Path) -> tuple[Path, Path]:
    names = folder / "site.pem", folder / "site.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", f"/CN={SITE}", "-addext", f"subjectAltName=DNS:{SITE}", "-days", "2"]
    files = ["-out", str(names[0]), "-keyout", str(names[1])]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return names


def _nginx(folder: Path, port: int, behind: str) -> list[str]:
    certificate, key = _certificate(folder)
    server = (DEPLOY / "nginx.conf").read_text("utf-8")
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/reid.example.pem", str(certificate)),
        ("/etc/ssl/reid.example.key", str(key)),
        ("127.0.0.1:8760", behind),
    ):
        assert old in server
        server = server.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{server}\n}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(path)]


def _caddy(folder: Path, port: int, behind: str) -> list[str]:
    certificate, key = _certificate(folder)
    site = (DEPLOY / "Caddyfile").read_text("utf-8")
    assert f"\n{SITE} {{" in site
    site = site.replace(
        f"\n{SITE} {{", f"\nhttps://{SITE}:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}"
    ).replace("127.0.0.1:8760", behind)
    path = folder / "Caddyfile"
    path.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]


PROXIES = {"nginx": _nginx, "caddy": _caddy}


class _Site(httpx.Client):
    """A client that finds the site on a port of the loopback, as a browser finds it by its name."""

    def __init__(self, port: int, certificate: Path) -> None:
        trusted = ssl.create_default_context(cafile=str(certificate))
        super().__init__(
            base_url=f"https://127.0.0.1:{port}/reid", verify=trusted, headers={"Host": SITE}, timeout=PATIENCE_S
        )

    def send(self, request, **options):
        request.extensions["sni_hostname"] = SITE
        return super().send(request, **options)


@contextlib.contextmanager
def _proxied(program: str, folder: Path, behind: str) -> Iterator[_Site]:
    port = _port()
    command = PROXIES[program](folder, port, behind)
    own = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    with (folder / "log").open("wb") as log_file, subprocess.Popen(command, stderr=log_file, env=own) as proxy:
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                log = (folder / "log").read_text("utf-8")
                assert proxy.poll() is None, log
                assert time.monotonic() < until, log
                time.sleep(0.05)
            with _Site(port, folder / "site.pem") as site:
                yield site
        finally:
            proxy.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                proxy.wait(2)
            proxy.kill()  # Caddy would wait a minute for the stream of events


@pytest.fixture(params=PROXIES)
def site(request, tmp_path, monkeypatch):
    """The site and the audit log, with a proxy before a service that runs below ``/reid``."""
    if shutil.which(request.param) is None or shutil.which("openssl") is None:
        pytest.skip(f"install {request.param} and openssl to test its file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "tokens").write_text(f"admin {TOKEN} the boss\n")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "proxy").mkdir()
    options = {"root_path": "/reid", "token_file": tmp_path / "tokens"}
    with service_on(tmp_path, {"yard": 12}, **options) as service, running(service) as address:
        behind = address.removeprefix("http://").partition("/")[0]
        with _proxied(request.param, tmp_path / "proxy", behind) as found:
            yield found


def _logged_in(site):
    claimed = {"X-Forwarded-For": "203.0.113.9"}  # a client can write what it likes; the proxy knows better
    answer = site.post("/api/v1/login", json={"token": TOKEN}, headers=claimed)
    assert answer.status_code == 200, answer.text
    assert "; Secure" in answer.headers["set-cookie"]
    return {"X-CSRF-Token": answer.json()["csrf"], "Origin": f"https://{SITE}"}


def test_a_browser_logs_in_and_searches_through_the_proxy(site, tmp_path):
    bare = site.get(site.base_url.copy_with(path="/reid"))
    assert bare.status_code == 308
    assert re.fullmatch(rf"(https://{SITE}(:\d+)?)?/reid/", bare.headers["location"])
    page = site.get("/")
    assert (page.status_code, 'action="/reid/api/v1/login"' in page.text) == (401, True)
    own = _logged_in(site)
    assert site.get("/").status_code == 200
    found = site.post("/api/v1/search", files=crop_files(tmp_path / "yard"), headers=own)
    assert found.status_code == 200, found.text
    picture = site.get(site.base_url.copy_with(path=found.json()["matches"][0]["thumbnail"].partition("?")[0]))
    assert picture.headers["content-type"].startswith("image/")
    (line,) = (tmp_path / "state" / "rrid-edge" / "audit.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)[name] for name in ("command", "client")] == ["login", "127.0.0.1"]


def test_events_arrive_at_once_and_bodies_are_bounded(site):
    own = _logged_in(site)
    stream = io.BytesIO()
    noise(77).save(stream, "PNG")
    with site.stream("GET", "/api/v1/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        files = {"image": ("a.png", stream.getvalue(), "image/png")}
        pushed = site.post("/api/v1/crops", files=files, headers={"Idempotency-Key": "one", **own})
        assert pushed.status_code == 201, pushed.text
        came = time.monotonic()
        assert any(line == "event: crop-added" for line in events.iter_lines())
        assert time.monotonic() - came < HEARTBEAT_S / 2  # a proxy that buffers sends it with a heartbeat, or later
    files = {"images": ("q.jpg", b"x" * BIG, "image/jpeg")}
    refused = site.post("/api/v1/search", files=files, headers=own)
    assert refused.status_code == 413
