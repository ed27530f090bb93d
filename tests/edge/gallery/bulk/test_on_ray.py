"""Bulk embedding on two nodes of Ray, with a worker killed in the middle: every crop exactly once.

Needs the extra [ray]: ``pytest -m integration tests/edge/gallery/bulk/test_on_ray.py``. The tests of Milvus need a
server too, see CONTRIBUTING.md.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import MissingDependencyError, UsageError
from rrid_edge.gallery.bulk.inputs import open_input
from rrid_edge.gallery.bulk.records import BulkSettings
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.opening import create_store, parse_location
from support.galleries import path_of
from support.pictures import save_crops
from support.programs import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray 2.60 about the defaults of its own settings
]
SPEC = fake_spec(block_width=4)
CROPS = 400


class Slow(FakeEngine):
    """Notes its process in a folder, and takes its time, so that a test can kill it at work."""

    def __init__(self, folder: str) -> None:
        super().__init__(SPEC, max_batch=8)
        self._note = Path(folder) / f"{os.getpid()}"

    def _run_batch(self, images):
        self._note.touch()
        time.sleep(0.05)
        return super()._run_batch(images)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, each of one CPU."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patched:
        places = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        patched.setenv("PYTHONPATH", os.pathsep.join(places))  # workers import this module
        from ray.cluster_utils import Cluster

        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        found.add_node(num_cpus=1)
        found.wait_for_nodes()
        yield found
        found.shutdown()


@pytest.fixture(params=["folder", "milvus"])
def place(request, tmp_path):
    if request.param == "folder":
        return parse_location(str(tmp_path / "g"))
    server = request.getfixturevalue("milvus_server")
    return parse_location(f"{server.address}/bulk_{tmp_path.name}".replace("-", "_"))


@pytest.fixture
def crops(tmp_path):
    """A folder of crops, a table of them in small row groups, and one crop that is damaged."""
    paths = save_crops(tmp_path / "crops", CROPS)
    (tmp_path / "crops" / "bad.jpg").write_bytes(paths[0].read_bytes()[:300])
    paths = sorted((tmp_path / "crops").iterdir())
    columns = {"path": [path.name for path in paths], "image": [path.read_bytes() for path in paths]}
    pq.write_table(pa.table(columns), tmp_path / "crops.parquet", row_group_size=50)
    return tmp_path


class KillOneWorker:
    """Kills one worker with SIGKILL after the first outcome."""

    def __init__(self, notes: Path) -> None:
        self._notes, self.killed, self.names = notes, 0, list[str]()

    def start(self, total):
        assert total == CROPS + 1

    def advance(self, count):
        if not self.killed:
            self.killed = max(int(note.name) for note in self._notes.iterdir())
            os.kill(self.killed, signal.SIGKILL)

    def failed(self, name, reason):
        self.names.append(name)


@pytest.mark.parametrize("kind", ["crops.parquet", "crops"])
def test_a_worker_killed_in_the_middle_loses_and_doubles_nothing(cluster, place, crops, kind):
    from rrid_edge.gallery.bulk.on_ray import Cluster, embed_many_on_ray

    notes = crops / "notes"
    notes.mkdir()
    opening, share = functools.partial(Slow, str(notes)), Cluster(cluster.address, engines=2, cpus=0.5)
    killer = KillOneWorker(notes)
    with create_store(place, SPEC) as gallery:
        given = open_input(str(crops / kind))
        report = embed_many_on_ray(given, (place, gallery), opening, BulkSettings(source="one"), share, killer)
        rows = gallery.rows()
        assert killer.killed
        assert len(list(notes.iterdir())) == 3  # two workers, and the one that replaced the killed one
        assert sorted(map(path_of, rows)) == sorted(path.name for path in (crops / "crops").glob("0*.jpg"))
        assert len({row.id for row in rows}) == CROPS
        assert not gallery.verify().damaged
        assert report.rows == report.added + report.unchanged == CROPS
        assert (report.changed, report.failures, killer.names) == (0, 1, ["bad.jpg"])
        assert isinstance(place, MilvusAddress) or report.added == CROPS
        again = embed_many_on_ray(given, (place, gallery), opening, BulkSettings(source="one"), share)
        assert (again.rows, again.added, again.changed, again.unchanged) == (CROPS, 0, 0, CROPS)
        assert gallery.rows() == rows


def no_runtime():
    raise MissingDependencyError("this worker has no runtime")


def test_an_error_of_a_worker_keeps_its_class(cluster, crops):
    from rrid_edge.gallery.bulk.on_ray import Cluster, embed_many_on_ray

    place, share = parse_location(str(crops / "g")), Cluster(cluster.address, engines=1, cpus=0.5)
    given = open_input(str(crops / "crops"))
    with create_store(place, SPEC) as gallery:
        with pytest.raises(MissingDependencyError, match="no runtime"):
            embed_many_on_ray(given, (place, gallery), no_runtime, BulkSettings(), share)
        with pytest.raises(UsageError, match="3 engines of 1 CPUs and 0 GPUs do not fit the cluster"):
            embed_many_on_ray(given, (place, gallery), no_runtime, BulkSettings(), Cluster(cluster.address, 3, 1.0))
        with pytest.raises(UsageError, match="no Ray cluster answers"):
            embed_many_on_ray(given, (place, gallery), no_runtime, BulkSettings(), Cluster("127.0.0.1:1", 1))
