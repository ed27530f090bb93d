"""``POST /api/v1/embed``."""

from __future__ import annotations

import io
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from rrid_edge.serve.addresses import API
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.routes.search import FORM_BODY
from rrid_edge.serve.uploads import embed_uploads, read_uploads

router = APIRouter(prefix=API, tags=["search"])
NPY: Final = "application/x-npy"
FINGERPRINT_HEADER: Final = "X-Model-Fingerprint"
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {FINGERPRINT_HEADER: {"schema": {"type": "string"}}},
        "content": {NPY: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Embedded(BaseModel):
    """Descriptors of images."""

    fingerprint: str
    dimension: int
    descriptors: list[list[float]]


@router.post(
    "/embed",
    response_model=Embedded,
    responses=_ANSWERS,
    openapi_extra={"requestBody": {"required": True, "content": FORM_BODY}},
)
async def embed(
    request: Request,
    service: ServiceOf,
    served: AskedGallery,
    _actor: Annotated[Actor, Depends(need("read"))],
) -> Response:
    """Compute the descriptors of up to 8 images, in their order: JSON, or `.npy` for `Accept: application/x-npy`."""
    files = await read_uploads(request, served.worker, service.settings.most_images)
    found = (await embed_uploads(service, served, files)).descriptors
    headers = {FINGERPRINT_HEADER: served.spec.fingerprint}
    if NPY in request.headers.get("accept", "").lower():
        stream = io.BytesIO()
        np.save(stream, found, allow_pickle=False)
        return Response(stream.getvalue(), media_type=NPY, headers=headers)
    answer = Embedded(fingerprint=served.spec.fingerprint, dimension=served.spec.dimension, descriptors=found.tolist())
    return Response(answer.model_dump_json(), media_type="application/json", headers=headers)
