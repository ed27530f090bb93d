"""Count wrong answers of a Milvus cluster whose query node dies: python tools/milvus_cluster.py [--replicas 2].

Starts a distributed Milvus 2.3.5 on the loopback (eight roles, two query nodes) and writes a gallery. Then it queries
the gallery without a pause, kills one query node with SIGKILL, and compares every answer with a slow obvious search. It
counts refused, incomplete and wrong answers.

Needs x86-64 Linux and ``etcd`` on the PATH (Debian: etcd-server). ``RRID_EDGE_MILVUS_PYTHON`` must name a Python with
``milvus==2.3.5`` and ``confluent-kafka``. The mock broker of ``confluent-kafka`` serves as the log. It keeps few
messages and loses all when it stops. So this tests correctness and failover, not load or durability.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from rrid_edge.errors import GalleryError
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.store import MilvusGallery
from support.galleries import SPEC, answered, rows, slow_search, vectors
from support.milvus_server import free_port, server_python

ROWS, BATCH = 600, 50
_BROKER = """
import confluent_kafka
broker = confluent_kafka.Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1})
found = broker.list_topics(timeout=10).brokers.values()
print(",".join(f"{one.host}:{one.port}" for one in found), flush=True)
while True:
    broker.poll(1.0)
"""
_CONFIGURE = """
import sys, milvus
milvus._initialize_data_files(sys.argv[1])
config = milvus.MilvusServerConfig(data_dir=sys.argv[1], proxy_port=int(sys.argv[2]))
config.resolve()
"""


@dataclass
class Seen:
    """Answers and errors that a reader received.

    Attributes:
        answers: number of answers.
        wrong: wrong or incomplete answers that were not refused.
        errors: number of refusals, by message.
        latencies_s: seconds per query.
    """

    answers: int = 0
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)


class Cluster:
    """The processes of one cluster, with their files in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._python = server_python() or sys.exit(
            "RRID_EDGE_MILVUS_PYTHON is not set: name a Python that has the package milvus"
        )
        self._etcd = shutil.which("etcd") or sys.exit("etcd is not on the PATH: install it (Debian: etcd-server)")
        self._metrics: dict[str, int] = {}

    def start(self) -> float:
        """Start all processes and wait for the proxy; returns the seconds taken."""
        start_s = time.perf_counter()
        broker = subprocess.Popen([self._python, "-c", _BROKER], stdout=subprocess.PIPE)
        self.processes["broker"] = broker
        assert broker.stdout is not None
        brokers = broker.stdout.readline().decode().strip()
        data = self.folder / "data"
        subprocess.run([self._python, "-c", _CONFIGURE, str(data), str(self.port)], check=True)
        self._write_configurations(data, brokers)
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        urls = {
            "listen-client": client,
            "advertise-client": client,
            "listen-peer": peer,
            "initial-advertise-peer": peer,
        }
        options = {f"{name}-urls": url for name, url in urls.items()}
        options |= {"data-dir": str(self.folder / "etcd"), "initial-cluster": f"default={peer}"}
        self._run("etcd", [self._etcd, *(f"--{name}={value}" for name, value in options.items())])
        time.sleep(1.5)
        roles = {name: name for name in ("rootcoord", "datacoord", "querycoord", "indexcoord", "datanode", "indexnode")}
        for name, role in {**roles, "querynode1": "querynode", "querynode2": "querynode", "proxy": "proxy"}.items():
            self._metrics[name] = free_port()
            self._run(
                name,
                [str(data / "bin" / "milvus"), "run", role],
                LD_LIBRARY_PATH=str(data / "bin"),
                DEPLOY_MODE="DISTRIBUTED",
                MILVUSCONF=str(self.folder / ("second" if name == "querynode2" else "first")),
                METRICS_PORT=str(self._metrics[name]),
            )
        self._await_proxy()
        return time.perf_counter() - start_s

    def _write_configurations(self, data: Path, brokers: str) -> None:
        """Write two configurations with our etcd and broker. They differ in the port of the query node."""
        text = (data / "configs" / "milvus.yaml").read_text()
        text = re.sub(r"  endpoints: localhost:\d+", f"  endpoints: 127.0.0.1:{self._etcd_port}", text, count=1)
        text = re.sub(r"embed: true.*", "embed: false", text, count=1)
        text = re.sub(r"(\nmq:\n(?:.*\n)*?  type: )rocksmq", r"\1kafka", text, count=1)
        text = re.sub(r"(\nlocalStorage:\n  path: ).*", rf"\g<1>{self.folder}/store/", text).replace(
            str(data), str(self.folder)
        )
        text += f"\nkafka:\n  brokerList: {brokers}\n  saslUsername:\n  saslPassword:\n"
        text += "  saslMechanisms: PLAIN\n  securityProtocol: PLAINTEXT\n"
        own_port = re.search(r"\nqueryNode:\n(?:.*\n)*?  port: (\d+)", text)
        assert own_port is not None
        second = text.replace(f"  port: {own_port[1]}", f"  port: {free_port()}")
        for name, body in (("first", text), ("second", second)):
            (self.folder / name).mkdir()
            (self.folder / name / "milvus.yaml").write_text(body)
            shutil.copy(data / "configs" / "glog.conf", self.folder / name)

    def _run(self, name: str, command: list[str], **variables: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=os.environ | variables
            )

    def _await_proxy(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{self._metrics['proxy']}/healthz"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.read().decode().strip() == "OK":
                        return
            time.sleep(0.5)
        sys.exit(f"the cluster did not start within 120 s; see {self.folder}/*.log")

    def kill(self, name: str) -> None:
        """Kill one role with SIGKILL."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self) -> None:
        """Kill all processes that still run."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.kill()
                process.wait()


def write(address: MilvusAddress, replicas: int) -> None:
    """Write a gallery of :data:`ROWS` rows in small batches, because the mock broker keeps few messages."""
    deadline = time.monotonic() + 60
    while True:
        try:
            gallery = MilvusGallery.create(address, SPEC, replicas=replicas)
            break
        except GalleryError as error:  # query nodes register shortly after the proxy is healthy
            if time.monotonic() > deadline:
                raise
            print(f"waiting: {error.message[:150]}")
            time.sleep(2)
    with gallery:
        for start in range(0, ROWS, BATCH):
            gallery.add(rows(ROWS)[start : start + BATCH], vectors(ROWS)[start : start + BATCH])
            time.sleep(0.2)
        gallery.compact()
        gallery.finish()
        print(f"{gallery.info().rows} rows, {replicas} replicas")


def read(address: MilvusAddress, seconds: float, kill_after_s: float, kill: Callable[[], None]) -> Seen:
    """Query for ``seconds``; call ``kill`` after ``kill_after_s``. Every answer is compared with a slow search."""
    stored, named, queries = vectors(ROWS).astype(np.float16), rows(ROWS), vectors(20, seed=5)
    expected = [slow_search(stored, named, query, 10) for query in queries]
    seen, start_s, killed = Seen(), time.monotonic(), False
    with MilvusGallery(address) as gallery:
        while (elapsed_s := time.monotonic() - start_s) < seconds:
            if elapsed_s > kill_after_s and not killed:
                killed = True
                kill()
            index = seen.answers % len(queries)
            query_s = time.monotonic()
            try:
                result = gallery.search(queries[index : index + 1], 10)
            except GalleryError as error:
                seen.errors[error.message.partition(": ")[2][:60]] += 1
            else:
                seen.answers += 1
                seen.wrong += answered(result.hits[0]) != expected[index] or result.rows != ROWS
            seen.latencies_s.append(time.monotonic() - query_s)
    return seen


def main() -> None:
    """Run the experiment and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            print(f"started in {cluster.start():.1f} s")
            address = MilvusAddress.parse(f"milvus+http://127.0.0.1:{cluster.port}/failover")
            write(address, options.replicas)
            seen = read(address, options.seconds, options.seconds / 6, lambda: cluster.kill("querynode1"))
        finally:
            cluster.stop()
    times = np.array(seen.latencies_s)
    print(f"answers {seen.answers}, wrong or incomplete {seen.wrong}, refused {sum(seen.errors.values())}")
    print(f"latency: median {np.median(times):.3f} s, longest {times.max():.1f} s")
    for message, count in seen.errors.most_common():
        print(f"  {count} x {message}")


if __name__ == "__main__":
    main()
