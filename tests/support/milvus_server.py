"""A real Milvus server for integration tests: the standalone server of the PyPI package ``milvus`` 2.3.5.

It runs on x86-64 Linux. The package conflicts with the versions that the tests use, so it needs a separate Python.
``RRID_EDGE_MILVUS_PYTHON`` names it::

    python -m venv server
    server/bin/pip install milvus==2.3.5
    export RRID_EDGE_MILVUS_PYTHON=server/bin/python

The server's etcd listens on fixed ports, so a machine can run only one server at a time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

START_S = 120
TOKEN = "root:Milvus"  # the default of every new server
_PREPARE_AND_BECOME = """
import os, sys
from pathlib import Path
import milvus
folder, port, metrics_port, auth = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
milvus._initialize_data_files(str(folder))
config = milvus.MilvusServerConfig(data_dir=str(folder), proxy_port=port)
config.base_data_dir = str(folder)
if auth == "auth":
    config.set("common.security.authorizationEnabled", "true")
if not (folder / "configs" / "milvus.yaml").exists():
    config.resolve()
library_path = str(folder / "bin")
os.chdir(folder)
binary = str(folder / "bin" / "milvus")
os.execve(binary, [binary, "run", "standalone"], os.environ | {
    "LD_LIBRARY_PATH": library_path, "DEPLOY_MODE": "STANDALONE", "METRICS_PORT": metrics_port,
    "MILVUS_RUN_DIR": str(folder / "run"), "MILVUSCONF": str(folder / "configs"),
})
"""


def server_python() -> str | None:
    """Return a Python that has the package ``milvus``, or None."""
    named = os.environ.get("RRID_EDGE_MILVUS_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("milvus") is not None else None


def free_port() -> int:
    """Return a free port on the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MilvusServer:
    """One standalone server. Its data survives :meth:`kill`.

    Args:
        folder: folder of the binary, configuration, logs and data.
        auth: True if the server asks for the token :data:`TOKEN`.
    """

    def __init__(self, folder: Path, *, auth: bool = True) -> None:
        python = server_python()
        assert python is not None, "RRID_EDGE_MILVUS_PYTHON names no Python with the package milvus"
        self._python, self._folder, self._auth = python, folder.resolve(), auth
        self.port, self._metrics_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """The location of a gallery on this server, without the collection."""
        return f"milvus+http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Start the server and wait until it is healthy. Return the seconds taken."""
        begun = time.perf_counter()
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._python,
                    "-c",
                    _PREPARE_AND_BECOME,
                    str(self._folder),
                    str(self.port),
                    str(self._metrics_port),
                    "auth" if self._auth else "open",
                ],
                stdout=log,
                stderr=log,
            )
        while not self._healthy():
            if self._process.poll() is not None or time.perf_counter() - begun > START_S:
                raise RuntimeError(f"Milvus did not start; see {self._folder / 'server.log'}")
            time.sleep(0.25)
        return time.perf_counter() - begun

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            url = f"http://127.0.0.1:{self._metrics_port}/healthz"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.read().decode().strip() == "OK"
        return False

    def kill(self) -> None:
        """End the server with SIGKILL, like a power cut."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End the server. A second call does nothing."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> MilvusServer:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
