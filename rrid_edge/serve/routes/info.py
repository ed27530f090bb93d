"""``/api/v1/info``."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from rrid_edge import __version__
from rrid_edge.machine.memory import memory_limit_bytes, resident_bytes
from rrid_edge.serve.addresses import API
from rrid_edge.serve.answers import shown_time
from rrid_edge.serve.asking import ServiceOf
from rrid_edge.serve.engine_facts import EngineFacts, engine_facts
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.service import Service

router = APIRouter(prefix=API, tags=["health"])


class Memory(BaseModel):
    """Memory of the process, in bytes."""

    resident: int | None
    limit: int


class Disk(BaseModel):
    """The disk under a gallery, in bytes. A gallery on a server has none here."""

    gallery: str
    total: int
    free: int


class Info(BaseModel):
    """What runs here."""

    version: str
    started: str
    uptime_s: float
    ready: bool
    read_only: bool
    watch: bool
    engines: list[EngineFacts]
    memory: Memory
    disks: list[Disk]
    followers: int


@router.get("/info")
async def info(service: ServiceOf, _actor: Annotated[Actor, Depends(need("read"))]) -> Info:
    """Tell what runs here: version, engines, parity, thresholds, queues, memory, disks."""
    return await service.threads.run(_info, service)


def _info(service: Service) -> Info:
    engines = []
    for worker in service.workers.values():
        own = [gallery for gallery in service.galleries.values() if gallery.worker is worker]
        engines.append(engine_facts(worker, own))
    return Info(
        version=__version__,
        started=shown_time(int(service.started * 1_000_000)),
        uptime_s=round(time.time() - service.started, 3),
        ready=service.is_ready,
        read_only=service.settings.read_only,
        watch=service.settings.watch,
        engines=engines,
        memory=Memory(resident=resident_bytes(), limit=memory_limit_bytes()),
        disks=_disks(service),
        followers=service.events.followers,
    )


def _disks(service: Service) -> list[Disk]:
    found = []
    for gallery in service.galleries.values():
        if not isinstance(gallery.location, Path):
            continue
        try:
            usage = shutil.disk_usage(gallery.location)
        except OSError:  # the index is gone, which searches say
            continue
        found.append(Disk(gallery=gallery.name, total=usage.total, free=usage.free))
    return found
