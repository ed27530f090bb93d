"""Where a gallery lies: a folder of this machine, or an address; the same few calls for both."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.errors import GalleryMissingError, UsageError, printable
from rrid_edge.gallery.base import Gallery
from rrid_edge.gallery.local.catalogue import FILE_NAME
from rrid_edge.gallery.local.folder import remove_index
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.client import MilvusAddress
from rrid_edge.model.spec import ModelSpec

INDEX_FOLDER = ".rrid-edge"
Location = Path | MilvusAddress
"""A folder that holds an index, or a collection in Milvus."""


def parse_location(text: str) -> Location:
    """A location as the user writes it.

    Raises:
        UsageError: it begins like an address, and is none.
    """
    if text.startswith("milvus+"):
        return MilvusAddress.parse(text)
    scheme, separator, _ = text.partition("://")
    if separator and scheme.isalpha():
        raise UsageError(
            f"{printable(text)}: galleries lie in folders or in Milvus; expected a folder, or milvus+http://HOST:19530/NAME"
        )
    return Path(text)


def location_of(crops: str | Path, index: str | Path | None = None) -> Location:
    """Where the gallery of a command lies.

    Args:
        crops: the folder of crops, or the gallery's own address.
        index: another location for the index: a folder or an address.
    """
    location = parse_location(str(crops)) if index is None else parse_location(str(index))
    if index is not None or isinstance(location, MilvusAddress):
        return location
    return location if (location / FILE_NAME).is_file() else location / INDEX_FOLDER


def gallery_exists(location: Location) -> bool:
    """Whether there is a gallery.

    Raises:
        GalleryError: an address whose server does not answer.
    """
    if isinstance(location, Path):
        return (location / FILE_NAME).is_file()
    from rrid_edge.gallery.milvus.collection import collection_exists

    return collection_exists(location)


def open_gallery(location: Location, *, write: bool = False, spec: ModelSpec | None = None) -> Gallery:
    """Open a gallery that is there.

    Args:
        location: of it.
        write: whether it will be changed.
        spec: of the model that will be used; another fingerprint is refused.

    Raises:
        GalleryError: none there, damaged, or it cannot be reached; see the stores.
    """
    if isinstance(location, Path):
        return LocalGallery(location, write=write, spec=spec)
    from rrid_edge.gallery.milvus.store import MilvusGallery

    return MilvusGallery(location, spec=spec)


def open_existing(location: Location) -> Gallery | None:
    """Open a gallery for reading; None where there is none.

    Raises:
        GalleryError: damaged, or it cannot be reached; see the stores.
    """
    try:
        return open_gallery(location)
    except GalleryMissingError:
        return None


def remembered_model(location: Location) -> Path | None:
    """The model file that a gallery was indexed with, where there is a gallery and it remembers."""
    gallery = open_existing(location)
    if gallery is None:
        return None
    with gallery:
        model = gallery.info().model
    return Path(model) if model else None


def create_gallery(
    location: Location, spec: ModelSpec, *, dtype: str = "float16", index_type: str = "", replicas: int = 0
) -> Gallery:
    """Make an empty gallery, or open for writing the one that is there.

    Args:
        location: of it.
        spec: of the model.
        dtype: ``float16`` or ``float32``.
        index_type: of a server's index: ``flat``, ``ivf``, ``hnsw`` or ``diskann``; empty is ``flat``.
        replicas: copies that a server holds in memory; 0 is one.

    Raises:
        UsageError: options that the location has no use for.
        GalleryError: see the stores.
    """
    if isinstance(location, Path):
        if index_type or replicas:
            raise UsageError(
                "index type and replicas are for galleries in Milvus; leave them out for a folder",
                parameter=("index_type", "replicas"),
            )
        return LocalGallery.create(location, spec, dtype=dtype)
    from rrid_edge.gallery.milvus.store import MilvusGallery

    return MilvusGallery.create(location, spec, dtype=dtype, index_type=index_type or None, replicas=replicas or None)


def remove_gallery(location: Location) -> None:
    """Remove a gallery, if there is one, and nothing else.

    Raises:
        GalleryError: another process writes it, or the collection is not one of ours.
    """
    if isinstance(location, Path):
        remove_index(location)
    elif gallery_exists(location):
        from rrid_edge.gallery.milvus.collection import drop_gallery

        drop_gallery(location)
