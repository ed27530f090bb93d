"""Where a gallery lies: a folder of this machine, or an address; the same few calls for both."""

from __future__ import annotations

from pathlib import Path

from rrid_edge.errors import UsageError, printable
from rrid_edge.gallery.base import Gallery
from rrid_edge.gallery.local.catalogue import FILE_NAME
from rrid_edge.gallery.local.folder import remove_index
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.client import MilvusAddress
from rrid_edge.model.spec import ModelSpec

INDEX_FOLDER = ".rrid-edge"
Place = Path | MilvusAddress
"""A folder that holds an index, or a collection in Milvus."""


def parse_place(text: str) -> Place:
    """A place as the user writes it.

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


def place_of(crops: str | Path, store: str | Path | None = None) -> Place:
    """Where the gallery of a command lies.

    Args:
        crops: the folder of crops, or the gallery's own address.
        store: another place for the index: a folder or an address.
    """
    place = parse_place(str(crops)) if store is None else parse_place(str(store))
    if store is not None or isinstance(place, MilvusAddress):
        return place
    return place if (place / FILE_NAME).is_file() else place / INDEX_FOLDER


def gallery_exists(place: Place) -> bool:
    """Whether there is a gallery.

    Raises:
        GalleryError: an address whose server does not answer.
    """
    if isinstance(place, Path):
        return (place / FILE_NAME).is_file()
    from rrid_edge.gallery.milvus.collection import collection_exists

    return collection_exists(place)


def open_gallery(place: Place, *, write: bool = False, spec: ModelSpec | None = None) -> Gallery:
    """Open a gallery that is there.

    Args:
        place: of it.
        write: whether it will be changed.
        spec: of the model that will be used; another fingerprint is refused.

    Raises:
        GalleryError: none there, damaged, or it cannot be reached; see the stores.
    """
    if isinstance(place, Path):
        return LocalGallery(place, write=write, spec=spec)
    from rrid_edge.gallery.milvus.store import MilvusGallery

    return MilvusGallery(place, spec=spec)


def create_gallery(
    place: Place, spec: ModelSpec, *, dtype: str = "float16", index_type: str = "", replicas: int = 0
) -> Gallery:
    """Make an empty gallery, or open for writing the one that is there.

    Args:
        place: of it.
        spec: of the model.
        dtype: ``float16`` or ``float32``.
        index_type: of a server's index: ``flat``, ``ivf``, ``hnsw`` or ``diskann``; empty is ``flat``.
        replicas: copies that a server holds in memory; 0 is one.

    Raises:
        UsageError: options that the place has no use for.
        GalleryError: see the stores.
    """
    if isinstance(place, Path):
        if index_type or replicas:
            raise UsageError("--index-type and --replicas are for galleries in Milvus; leave them out for a folder")
        return LocalGallery.create(place, spec, dtype=dtype)
    from rrid_edge.gallery.milvus.store import MilvusGallery

    return MilvusGallery.create(place, spec, dtype=dtype, index_type=index_type or None, replicas=replicas or None)


def remove_gallery(place: Place) -> None:
    """Remove a gallery, if there is one, and nothing else.

    Raises:
        GalleryError: another process writes it, or the collection is not one of ours.
    """
    if isinstance(place, Path):
        remove_index(place)
    elif gallery_exists(place):
        from rrid_edge.gallery.milvus.collection import drop_gallery

        drop_gallery(place)
