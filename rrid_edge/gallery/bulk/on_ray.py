"""Bulk embedding on a Ray cluster: one engine per actor, batches by Ray Data. The only module that imports Ray.

Workers write to Milvus themselves: upserts by key may be repeated, so a batch that Ray runs again after a lost worker
makes no second row. A gallery in a folder has one writer: workers embed, and this process stores.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.data
import ray.util.client

from rrid_edge.engines.base import Engine
from rrid_edge.errors import (
    MissingDependencyError,
    RridEdgeError,
    UnexpectedError,
    UsageError,
    printable,
    unforeseen,
)
from rrid_edge.gallery.bulk.embedding import BatchEmbedder, Job
from rrid_edge.gallery.bulk.inputs import CropInput
from rrid_edge.gallery.bulk.known import KnownFiles
from rrid_edge.gallery.bulk.parts import GROUP, TABLE, parts_of
from rrid_edge.gallery.bulk.reaching import keeping_signals, refuse_unreachable
from rrid_edge.gallery.bulk.records import CROPS_PER_BATCH, BulkReport, BulkSettings, CropBatch, Outcome
from rrid_edge.gallery.bulk.run import SILENT, Listener, Tally, kept_in, planned, store_outcome, stored_rows
from rrid_edge.gallery.bulk.tables import crops_of
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.milvus.address import TOKEN_VARIABLE, MilvusAddress
from rrid_edge.gallery.opening import Location, open_store
from rrid_edge.stopping import kept_if_stopped

_BATCHES_PER_ENGINE = 4  # of a small input, so that no engine waits for another
_LEAST_CROPS_PER_BATCH = 64
_OUTCOME = "outcome"


@dataclass(frozen=True)
class Cluster:
    """The cluster and the share of it that is used.

    Attributes:
        address: of the cluster, such as ``ray://HEAD:10001`` or ``auto``. None joins the one that ``RAY_ADDRESS`` names
            or that runs on this machine, and else starts one on this machine.
        engines: number of engines; None means one per GPU, or one per machine without GPUs.
        cpus: CPUs that Ray reserves per engine; fractions let several share one.
        gpus: GPUs per engine; None means 1 where the cluster has GPUs.
    """

    address: str | None = None
    engines: int | None = None
    cpus: float = 0.5
    gpus: float | None = None


def embed_many_on_ray(
    crops: CropInput,
    target: tuple[Location, GalleryStore],
    open_engine: Callable[[], Engine],
    settings: BulkSettings,
    cluster: Cluster,
    listener: Listener = SILENT,
) -> BulkReport:
    """Like :func:`rrid_edge.gallery.bulk.run.embed_many`, on a cluster.

    Args:
        crops: whose files, if it has any, all machines of the cluster see at the same place.
        target: the gallery's location, and the gallery, open for writing.
        open_engine: opens an engine of the gallery's model; it runs on the machines of the cluster.
        settings: source, pattern, batch size.
        cluster: to run on.
        listener: follows the run.

    Raises:
        UsageError: the cluster cannot be reached or lacks what an engine needs; or as for one process.
        RridEdgeError: an engine or the gallery fails on a worker. What was committed is kept.
    """
    location, gallery = target
    job, total = planned(crops, gallery, settings), crops.count()
    tally = Tally(job.source, listener)
    with kept_if_stopped(partial(kept_in, gallery)), _joined(cluster):
        shares = _shares(cluster)
        listener.start(total)
        writes = isinstance(location, MilvusAddress)
        known = None if writes else ray.put(KnownFiles.of(gallery.rows([job.source])))
        work = _Work(job, open_engine, location if writes else None, os.environ.get(TOKEN_VARIABLE, ""))
        parts, size = parts_of(crops, _batch_size(total, shares.engines))
        sent = replace(crops, listing={}, left_out=())
        with contextlib.closing(_outcomes((parts, size, (work, known, sent), shares))) as outcomes:
            for outcome in outcomes:
                stored = outcome if writes else store_outcome(gallery, outcome, job)
                tally.take(stored)
                listener.advance(stored.done)
    gallery.finish()
    return tally.report(gallery.info(), shares.engines)


@dataclass(frozen=True)
class _Work:
    """What an actor gets: the job, how to open its engine, and the gallery that it writes to, or None."""

    job: Job
    open_engine: Callable[[], Engine]
    location: Location | None
    token: str

    def start(self, known: KnownFiles | None) -> BatchEmbedder:
        """Open engine and gallery."""
        if self.token:
            os.environ.setdefault(TOKEN_VARIABLE, self.token)
        engine = self.open_engine()
        if self.location is None:
            assert known is not None
            return BatchEmbedder(self.job, engine, known.find)
        store = open_store(self.location, write=True, spec=engine.spec)
        return BatchEmbedder(self.job, engine, partial(stored_rows, store, source=self.job.source), store)


class _Worker:
    """An actor: embeds the batches that Ray Data hands it. Errors travel as values, so that they keep their class."""

    def __init__(self, work: Any, known: Any, crops: CropInput) -> None:  # noqa: ANN401 - references in Ray's store
        self._work, self._known, self._crops = ray.get(work), known, crops
        self._embedder: BatchEmbedder | None = None

    def __call__(self, work: Any) -> dict[str, Any]:  # noqa: ANN401 - a table of pyarrow
        """The outcomes of a part of the input, pickled."""
        results: list[Outcome | RridEdgeError] = []
        try:
            if self._embedder is None:
                self._embedder = self._work.start(None if self._known is None else ray.get(self._known))
            results += map(self._embedder.embed, self._batches(work))
        except RridEdgeError as error:
            results.append(error)
        except Exception as error:
            results.append(UnexpectedError(f"a worker failed: {unforeseen(error)}; see its log in Ray's dashboard"))
        return {_OUTCOME: np.array([pickle.dumps(result) for result in results], object)}

    def _batches(self, work: Any) -> Iterator[CropBatch]:  # noqa: ANN401
        """The crops of row groups, or of a part of a listing."""
        if GROUP not in work.schema.names:
            yield crops_of(work)
            return
        for table, number in zip(work.column(TABLE).to_pylist(), work.column(GROUP).to_pylist(), strict=True):
            yield from self._crops.row_group(table, number)


@dataclass(frozen=True)
class _Shares:
    """What Ray reserves: engines, and CPUs and GPUs of each."""

    engines: int
    cpus: float
    gpus: float


def _shares(cluster: Cluster) -> _Shares:
    """The engines that fit a cluster.

    Raises:
        UsageError: it has too few CPUs or GPUs.
    """
    has = ray.cluster_resources()
    gpus_total, cpus_total = float(has.get("GPU", 0)), float(has.get("CPU", 0))
    gpus = cluster.gpus if cluster.gpus is not None else float(gpus_total > 0)
    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    engines = cluster.engines or (max(1, int(gpus_total / gpus)) if gpus else machines)
    if engines * gpus > gpus_total or engines * cluster.cpus >= cpus_total:
        raise UsageError(
            f"{engines} engines of {cluster.cpus:g} CPUs and {gpus:g} GPUs do not fit the cluster ({cpus_total:g} "
            f"CPUs, {gpus_total:g} GPUs); expected some CPU left for reading: use fewer engines or fewer CPUs per "
            "engine",
            parameter=("engines", "cpus_per_engine", "gpus_per_engine"),
        )
    return _Shares(engines, cluster.cpus, gpus)


def _batch_size(total: int, engines: int) -> int:
    return min(CROPS_PER_BATCH, max(_LEAST_CROPS_PER_BATCH, -(-total // (_BATCHES_PER_ENGINE * engines))))


_Task = tuple[list[Any], int, tuple[_Work, Any, CropInput], _Shares]  # parts, their rows, what actors get, shares


def _outcomes(task: _Task) -> Generator[Outcome, None, None]:
    """Outcomes in the order in which workers finish.

    Raises:
        RridEdgeError: a worker failed.
    """
    # Ray Data does not run in a process that is joined by ray://. There, an actor of the cluster runs it.
    pickled = _from_head(task) if ray.util.client.ray.is_connected() else _pickled(task)
    with contextlib.closing(pickled):  # before Ray is left: its executor would start a cluster of its own
        for one in pickled:
            result = pickle.loads(one)  # noqa: S301 - of our own workers
            if isinstance(result, RridEdgeError):
                raise result
            yield result


def _pickled(task: _Task) -> Generator[bytes, None, None]:
    parts, size, (shipped, known, crops), shares = task
    done = ray.data.from_arrow(parts).map_batches(
        _Worker,
        batch_size=size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=shares.engines),
        fn_constructor_args=(ray.put(shipped), known, crops),
        num_cpus=shares.cpus,
        num_gpus=shares.gpus,
    )
    for row in _unbroken(done.iter_rows()):
        yield row[_OUTCOME]


class _Head:
    """An actor that runs Ray Data for a process outside of the cluster."""

    def __init__(self, task: _Task) -> None:
        ray.data.DataContext.get_current().enable_progress_bars = False
        self._pickled = _pickled(task)

    def next(self) -> bytes | None:
        """The next outcome, pickled; None after the last."""
        try:
            return next(self._pickled, None)
        except RridEdgeError as error:
            return pickle.dumps(error)


def _from_head(task: _Task) -> Generator[bytes, None, None]:
    head = ray.remote(num_cpus=0)(_Head).remote(task)
    while (one := ray.get(head.next.remote())) is not None:
        yield one


def _unbroken(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a dataset.

    Raises:
        MissingDependencyError: a machine of the cluster lacks a package.
        UnexpectedError: the cluster failed in another way.
    """
    try:
        yield from rows
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        lacks = next((line for line in lines if "No module named" in line), "")
        if lacks:
            raise MissingDependencyError(
                f"a machine of the cluster lacks a package ({printable(lacks)[:200]}); every machine needs the same "
                "Python and rrid-edge with its extras: pip install 'rrid-edge[ray]' there"
            ) from error
        raise UnexpectedError(
            f"the Ray cluster failed ({unforeseen(error)}); what was stored is kept: run the command again"
        ) from error


@contextlib.contextmanager
def _joined(cluster: Cluster) -> Iterator[None]:
    """Join the cluster, unless this process has joined one, and leave it at the end. Ray prints nothing meanwhile.

    Raises:
        UsageError: the cluster cannot be reached.
    """
    ray.data.DataContext.get_current().enable_progress_bars = False  # the caller draws one of crops
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.|rrid_edge\.gallery\.bulk")
        if ray.is_initialized():
            yield
            return
        refuse_unreachable(cluster.address)
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            keeping_signals(ray.init)(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = cluster.address or "the cluster of RAY_ADDRESS"
            raise UsageError(
                f"{where}: no Ray cluster answers ({unforeseen(error)}); start one, or leave the address out",
                parameter="address",
            ) from error
        try:
            yield
        finally:
            ray.shutdown()
