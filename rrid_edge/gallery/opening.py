"""Opening, creating and removing galleries at a location: a folder or a Milvus address."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TypedDict

from typing_extensions import Unpack

from rrid_edge.errors import GalleryError, GalleryMissingError, GalleryUnavailableError, UsageError, printable
from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.local.folder import DEFAULT_MODE, has_index, remove_index
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.address import MilvusAddress, without_secrets
from rrid_edge.gallery.people_traces import remove_people, reset_people
from rrid_edge.gallery.shared import refuse_unknown_dtype
from rrid_edge.json_text import name_of_text, text_of_name
from rrid_edge.model.spec import ModelSpec

INDEX_FOLDER = ".rrid-edge"
Location = Path | MilvusAddress
"""The folder of an index, or a collection in Milvus."""


def parse_location(text: str) -> Location:
    """Parse the text of a location.

    Raises:
        UsageError: the text looks like an address but is not one. The message hides passwords and tokens.
    """
    if text.startswith("milvus+"):
        return MilvusAddress.parse(text)
    # A mistyped address taken for a folder would be repeated, with its password, by every later message.
    if re.match(r"[A-Za-z][\w+.-]*:+[\w+]*/|.*:.*@", text, re.DOTALL) and not Path(text).exists():
        raise UsageError(
            f"{printable(without_secrets(text))}: not a location of a gallery; expected a folder or "
            "milvus+http://HOST:19530/COLLECTION"
        )
    return Path(text)


def location_of(crops: str | Path, index: str | Path | None = None) -> Location:
    """The location of a gallery.

    Args:
        crops: the folder of crops, the folder of an index, or an address.
        index: location of the index, a folder or an address. None means ``.rrid-edge`` in the folder of crops.

    Raises:
        UsageError: a text begins like an address but is not one, or both folders are the same.
    """
    location = parse_location(str(crops)) if index is None else parse_location(str(index))
    if index is not None and location == Path(crops) and isinstance(location, Path) and not has_index(location):
        raise UsageError(
            f"{printable(location)}: these are the crops, and the index would lie among them; give another folder for "
            "the index, or leave it out",
            parameter="gallery",
        )
    if index is not None or isinstance(location, MilvusAddress):
        return location
    is_index = location.name == INDEX_FOLDER or has_index(location)
    return location if is_index else location / INDEX_FOLDER


def store_exists(location: Location) -> bool:
    """Whether a gallery exists.

    Raises:
        GalleryUnavailableError: the server does not answer.
    """
    if isinstance(location, Path):
        return has_index(location)
    from rrid_edge.gallery.milvus.collection import collection_exists

    return collection_exists(location)


def open_store(
    location: Location, *, write: bool = False, spec: ModelSpec | None = None, check: bool = True
) -> GalleryStore:
    """Open an existing gallery.

    Args:
        location: of the gallery.
        write: open for writing. A gallery in a folder has one writer at a time.
        spec: the model that will be used. A gallery of another fingerprint is refused; None accepts any.
        check: opening a gallery in a folder for writing looks for damaged entries, which takes 0.2 s per 100,000 rows.
            A program that writes often and has looked once may leave it out.

    Raises:
        GalleryMissingError: no gallery at this location.
        GalleryBusyError: another process writes the gallery.
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
        FingerprintMismatchError: the gallery was indexed with another model.
    """
    if isinstance(location, Path):
        return LocalGallery(location, write=write, spec=spec, check=check)
    from rrid_edge.gallery.milvus.store import MilvusGallery

    return MilvusGallery(location, spec=spec)


def open_existing(location: Location) -> GalleryStore | None:
    """Open a gallery for reading, or return None if it does not exist.

    Raises:
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
    """
    try:
        return open_store(location)
    except GalleryMissingError:
        return None


def model_text(location: Location, model: Path) -> str:
    """How a gallery records a model file: relative to the index folder if both lie in one tree, else absolute.

    Names that are no UTF-8 are written as :mod:`rrid_edge.json_text` says.
    A copy of the tree then uses its own model, not the one of the original.

    Args:
        location: of the gallery. On a server, paths are always absolute.
        model: the model file.
    """
    absolute = model.resolve()
    if not isinstance(location, Path):
        return text_of_name(str(absolute))
    index = location.resolve()
    common = Path(os.path.commonpath([index, absolute]))
    return text_of_name(str(absolute) if common == Path(common.anchor) else os.path.relpath(absolute, index))


def model_path(location: Location, text: str) -> Path | None:
    """The model file of a recorded text, which may have been moved since; None if the text is empty."""
    if not text:
        return None
    name = name_of_text(text)
    if isinstance(location, Path):
        return Path(os.path.normpath(location.resolve() / name))
    return Path(name)


def remembered_model(location: Location) -> Path | None:
    """The model file that a gallery was indexed with, or None if it is unknown or the gallery does not exist.

    The file may have been moved since.
    """
    info = remembered_info(location)
    if info is not None:
        return model_path(location, info.model)
    from rrid_edge.gallery import keeping

    kept = keeping.load(location)  # of an interrupted rebuild
    return None if kept is None else model_path(location, kept.facts.get("model", ""))


def remembered_info(location: Location) -> GalleryInfo | None:
    """The facts of a gallery, or None if it does not exist.

    Raises:
        GalleryUnavailableError: the server does not answer.
        GalleryError: the gallery is damaged or has a newer format.
    """
    gallery = open_existing(location)
    if gallery is None:
        return None
    with gallery:
        return gallery.info()


class StoreOptions(TypedDict, total=False):
    """How a gallery is created.

    Attributes:
        dtype: type of the stored values of a new gallery: ``float16`` (the default) or ``float32``.
        index_type: Milvus only: ``flat``, ``ivf``, ``hnsw`` or ``diskann``. Empty means ``flat`` for a new collection.
        replicas: Milvus only: replicas in the memory of query nodes. 0 means 1 for a new collection.
        mode: folders only: permissions of a new index folder, for example ``0o750`` for one that a group may read. None
            means ``0o700``.
    """

    dtype: str
    index_type: str
    replicas: int
    mode: int | None


def create_store(location: Location, spec: ModelSpec, **options: Unpack[StoreOptions]) -> GalleryStore:
    """Create an empty gallery, or open the existing one for writing. An interrupted rebuild is finished.

    Args:
        location: of the gallery.
        spec: of the model.
        **options: see :class:`StoreOptions`.

    Raises:
        UsageError: an option is unknown or does not fit the location.
        OutputError: the folder cannot be written.
        GalleryBusyError: another process writes the gallery.
        GalleryUnavailableError: the server does not answer.
        GalleryError: an existing gallery is damaged or has a newer format.
        FingerprintMismatchError: an existing gallery was indexed with another model.
    """
    _refuse_unfit(location, options)
    dtype, mode = options.get("dtype", "float16"), options.get("mode")
    if isinstance(location, Path):
        permissions = DEFAULT_MODE if mode is None else mode
        store: GalleryStore = LocalGallery.create(location, spec, dtype=dtype, mode=permissions)
    else:
        from rrid_edge.gallery.milvus.store import MilvusGallery

        index_type, replicas = options.get("index_type") or None, options.get("replicas") or None
        store = MilvusGallery.create(location, spec, dtype=dtype, index_type=index_type, replicas=replicas)
    from rrid_edge.gallery import keeping

    try:
        keeping.restore(location, store)
    except BaseException:
        store.close()
        raise
    return store


def _refuse_unfit(location: Location, options: StoreOptions) -> None:
    """Refuse options that are unknown or do not fit a location.

    Raises:
        UsageError: there are some.
    """
    index_type, replicas = options.get("index_type", ""), options.get("replicas", 0)
    if isinstance(location, Path):
        if index_type or replicas:
            given = f"index type {index_type!r}" if index_type else f"{replicas} replicas"
            reason = "index type and replicas are for galleries in Milvus; leave both out"
            raise UsageError(f"{given} for a folder: {reason}", parameter=("index_type", "replicas"))
    else:
        from rrid_edge.gallery.milvus.collection import refuse_unknown_index_type

        if options.get("mode") is not None:
            raise UsageError("permissions are for galleries in folders; leave them out in Milvus", parameter="mode")
        refuse_unknown_index_type(index_type or None)
        if location.is_file and replicas > 1:
            reason = "a server's query nodes keep replicas, a file has none; leave them out"
            raise UsageError(f"{replicas} replicas for a file: {reason}", parameter="replicas")
    refuse_unknown_dtype(options.get("dtype", "float16"))


def rebuild_store(location: Location, spec: ModelSpec, **options: Unpack[StoreOptions]) -> GalleryStore:
    """Remove a gallery, if it exists, and create an empty one.

    The new gallery keeps the pattern, the source of times, the retention, the model, and what was forgotten. The
    arguments and errors are those of :func:`create_store`; with a wrong option nothing is removed. A damaged gallery is
    replaced too; what it cannot tell is lost. Rows get new ids, so its people file is emptied.
    """
    _refuse_unfit(location, options)
    try:
        old = open_existing(location)
    except GalleryUnavailableError:
        raise
    except GalleryError:
        old = None
    if old is not None:
        from rrid_edge.gallery import keeping

        with old:
            keeping.save(location, keeping.Kept.of(old))
    _remove_rows(location)
    reset_people(location)
    return create_store(location, spec, **options)


def remove_store(location: Location) -> None:
    """Remove a gallery, if it exists, with its people file, and no other files or collections.

    Raises:
        GalleryBusyError: another process writes the gallery.
        GalleryUnavailableError: the server does not answer.
        GalleryError: the collection is not a gallery.
    """
    _remove_rows(location)
    remove_people(location)
    if isinstance(location, Path):
        with contextlib.suppress(OSError):  # the folder holds other files
            location.rmdir()


def _remove_rows(location: Location) -> None:
    if isinstance(location, Path):
        remove_index(location)
    elif store_exists(location):
        from rrid_edge.gallery.milvus.collection import drop_gallery

        drop_gallery(location)
