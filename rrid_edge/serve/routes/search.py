"""``POST /api/v1/search``, and the pictures of kept queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.fields import bound_of, camera_names
from rrid_edge.gallery.searching import AskedScore
from rrid_edge.serve.addresses import API
from rrid_edge.serve.answering import AskedQuery
from rrid_edge.serve.asking import AskedGallery, ServiceOf
from rrid_edge.serve.crop_ids import CropNumber
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.limits import MULTIPART
from rrid_edge.serve.gate.problems import RequestError
from rrid_edge.serve.gate.roles import Actor, need
from rrid_edge.serve.gate.scopes import media_type_of
from rrid_edge.serve.search_answers import SearchAnswer
from rrid_edge.serve.searching import (
    SearchChoices,
    kept_query,
    query_of_crop,
    query_of_descriptor,
    query_of_uploads,
    search,
    search_together,
)
from rrid_edge.serve.service import Service
from rrid_edge.serve.uploads import FIELD, EmbeddedUploads, embed_uploads, read_uploads

router = APIRouter(prefix=API, tags=["search"])
MOST_TOP_K: Final = 100
_MOST_CAMERAS: Final = 100
_LONGEST: Final = 255
_MOST_VALUES: Final = 1 << 16
_Camera = Annotated[str, Field(max_length=_LONGEST)]
_Time = Annotated[
    str | None, Query(max_length=64, description="ISO 8601, a date, a duration before now (`30m`, `2h`), or a frame.")
]
_Rate = Annotated[float | None, Query(gt=0, lt=1, allow_inf_nan=False)]


class Question(BaseModel):
    """The query of a JSON body: one of a crop, a kept query, and a descriptor with its model's fingerprint."""

    model_config = ConfigDict(extra="forbid", strict=True)

    crop: CropNumber | None = Field(None, description="Id of a crop of the gallery.")
    query: str | None = Field(None, max_length=_LONGEST, description="Id of a kept query.")
    descriptor: list[float] | None = Field(None, max_length=_MOST_VALUES, description="A descriptor of unit length.")
    fingerprint: str | None = Field(None, max_length=_LONGEST, description="Of the model that made the descriptor.")


_FORM: Final = {
    "type": "object",
    "properties": {
        FIELD: {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "description": "Images of one person.",
        }
    },
    "required": [FIELD],
    "additionalProperties": False,
}
FORM_BODY: Final[dict[str, Any]] = {"multipart/form-data": {"schema": _FORM}}


async def choices_of(  # noqa: PLR0913 - one parameter per choice
    top_k: Annotated[int, Query(ge=1, le=MOST_TOP_K, description="Most matches.")] = 8,
    camera: Annotated[list[_Camera] | None, Query(max_length=_MOST_CAMERAS, description="Only these cameras.")] = None,
    exclude_camera: Annotated[
        list[_Camera] | None, Query(max_length=_MOST_CAMERAS, description="None of these cameras.")
    ] = None,
    since: _Time = None,
    until: _Time = None,
    min_score: Annotated[float | None, Query(ge=-1, le=1, allow_inf_nan=False)] = None,
    fpr: _Rate = None,
    fpir: _Rate = None,
    rerank: Annotated[bool, Query(description="Re-rank the best crops by shared neighbours.")] = False,
) -> SearchChoices:
    """The choices of a request.

    Raises:
        UsageError: a time cannot be read, or a camera's name cannot be one.
    """
    bounds = []
    for name, text in (("since", since), ("until", until)):
        try:
            bounds.append(bound_of(name, text))
        except UsageError as error:
            raise UsageError(f"{name}: {error.message}", parameter=name) from error
    first, last = bounds
    rows = SearchFilter(
        cameras=camera_names(camera or ()),
        not_cameras=camera_names(exclude_camera or ()),
        since=first.time,
        until=last.time,
        since_frame=first.frame,
        until_frame=last.frame,
    )
    return SearchChoices(top_k, rows, AskedScore(min_score, fpr, fpir), rerank)


@router.post(
    "/search",
    response_model=SearchAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {**FORM_BODY, "application/json": {"schema": Question.model_json_schema()}},
        }
    },
)
async def search_gallery(
    request: Request,
    service: ServiceOf,
    served: AskedGallery,
    choices: Annotated[SearchChoices, Depends(choices_of)],
    actor: Annotated[Actor, Depends(need("read"))],
) -> Response:
    """Rank a gallery for one person: up to 8 images, a crop of the gallery, a kept query, or a descriptor."""
    start = time.perf_counter()
    uploads: EmbeddedUploads | None = None
    media_type = media_type_of(request.scope)
    if media_type == MULTIPART:
        files = await read_uploads(request, served.worker, service.settings.most_images)
        uploads = await embed_uploads(service, served, files)
        answer = await _answer_to_uploads((service, served, actor), query_of_uploads(uploads), choices)
    elif media_type == "application/json":
        question = _question(await request.body())

        def answered() -> SearchAnswer:
            answer = search(service, served, _asked(served, question), choices)
            _trace(service, served, actor, answer)
            return answer

        answer = await service.threads.run(answered)
    else:
        raise RequestError(
            "the body is neither a form nor JSON: expected multipart/form-data or application/json", status=415
        )
    spent = answer.milliseconds
    if uploads is not None:
        spent.waiting, spent.decoding = uploads.waiting_s * 1000, uploads.decoding_s * 1000
        spent.embedding = uploads.embedding_s * 1000
    spent.total = (time.perf_counter() - start) * 1000
    return Response(answer.model_dump_json(), media_type="application/json")  # FastAPI would check it again


async def _answer_to_uploads(
    asker: tuple[Service, ServedGallery, Actor], asked: AskedQuery, choices: SearchChoices
) -> SearchAnswer:
    """The answer to uploaded images. Those of the same choices that wait are searched together, unless re-ranked."""
    service, served, actor = asker

    def answered(items: Sequence[tuple[AskedQuery, Context, Actor]]) -> list[SearchAnswer | Exception]:
        answers = search_together(service, served, [one for one, _, _ in items], choices)
        for answer, (_, context, asks) in zip(answers, items, strict=True):
            if isinstance(answer, SearchAnswer):  # in the context of its request, which the audit line names
                context.run(_trace, service, served, asks, answer)
        return [*answers]

    key = (served.name, choices, id(asked) if choices.rerank else None)  # re-ranking takes long for each
    return await service.threads.run_together(key, answered, (asked, copy_context(), actor))


def _question(body: bytes) -> Question:
    """The query of a JSON body.

    Raises:
        RequestError: 422, it is none.
    """
    try:
        found = Question.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise RequestError(f"{where}: {first['msg']}; expected crop, query, or descriptor and fingerprint") from error
    ways = [name for name in ("crop", "query", "descriptor") if getattr(found, name) is not None]
    if len(ways) != 1 or (found.descriptor is None) != (found.fingerprint is None):
        given = ", ".join(name for name in Question.model_fields if getattr(found, name) is not None) or "none"
        raise RequestError(f"the body gives {given}: expected one of crop, query, or descriptor with its fingerprint")
    return found


def _asked(served: ServedGallery, question: Question) -> AskedQuery:
    if question.crop is not None:
        return query_of_crop(served, question.crop)
    if question.query is not None:
        return kept_query(served, question.query)
    assert question.descriptor is not None
    assert question.fingerprint is not None
    return query_of_descriptor(served, question.descriptor, question.fingerprint)


def _trace(service: Service, served: ServedGallery, actor: Actor, answer: SearchAnswer) -> None:
    service.metrics.search(served.name, answer.mode)
    ids = [found.id for found in answer.matches]
    service.audit.line("search", actor, served.name, ids, images=answer.query.images, crop=answer.query.crop)


@router.get(
    "/queries/{query}/image",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def query_image(
    query: Annotated[str, Path(max_length=_LONGEST)],
    service: ServiceOf,
    served: AskedGallery,
    _actor: Annotated[Actor, Depends(need("read"))],
) -> Response:
    """Show the first image of a kept query, small."""
    found = await service.threads.run(served.book.kept_query, query)
    if found is None:
        raise RequestError("no such query is kept: queries are kept for a day", status=404)
    return Response(found.thumbnail, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
