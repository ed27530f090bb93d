"""Inputs of bulk embedding: a table of Parquet, a folder of crops, or a folder in an object store."""

from __future__ import annotations

import posixpath
import socket
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rrid_edge.crops.folder import is_image_name, scan_images
from rrid_edge.crops.formats import FORMATS
from rrid_edge.crops.reading import why_no_images
from rrid_edge.errors import FolderUnavailableError, UsageError, printable
from rrid_edge.gallery.bulk.files import CropFiles, LocalFiles, RemoteFiles
from rrid_edge.gallery.bulk.records import CROPS_PER_BATCH, CropBatch
from rrid_edge.gallery.indexing.left_out import FileState, file_state
from rrid_edge.machine.advice import missing_package
from rrid_edge.progress import step

if TYPE_CHECKING:
    from types import ModuleType

_TABLE = ".parquet"
_EXPECTED = "expected a folder of crops, a .parquet file, a folder of them, or an address such as s3://BUCKET/FOLDER"


@dataclass(frozen=True)
class CropInput:
    """An input of crops.

    Attributes:
        text: as messages name it.
        files: reads the crops that are files.
        source: name of the rows' source, unless the caller gives one; None for a folder on a disk.
        folder: on a disk, of an input that is a folder of crops; None for others.
        tables: paths of the files of Parquet in ``filesystem``; empty for a folder of crops.
        columns: that are read of them.
        filesystem: a ``pyarrow.fs.FileSystem``, or None for a folder of crops on a disk.
        listing: state of each file of a folder of crops, by name.
        left_out: entries of the folder that are not taken, with the reason.
        endings: number of files with endings that no image has, by their ending.
    """

    text: str
    files: CropFiles
    source: str | None
    folder: Path | None = None
    tables: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    filesystem: Any = None
    listing: Mapping[str, FileState] = field(default_factory=dict, repr=False)
    left_out: tuple[tuple[str, str], ...] = ()
    endings: Mapping[str, int] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """Folder of the files, as absolute paths of a table begin."""
        return str(self.files.folder) if isinstance(self.files, LocalFiles) else getattr(self.files, "base", "")

    def count(self) -> int:
        """Number of crops. Reads the footers of tables."""
        return int(self._dataset().count_rows()) if self.tables else len(self.listing)

    def batches(self, size: int = CROPS_PER_BATCH) -> Iterator[CropBatch]:
        """The crops, ``size`` at a time."""
        if self.tables:
            from rrid_edge.gallery.bulk.tables import crops_of

            # Without read-ahead: a batch holds the bytes of its images.
            parts = self._dataset().to_batches(
                columns=list(self.columns), batch_size=size, batch_readahead=0, fragment_readahead=0
            )
            yield from (crops_of(part, self.root) for part in parts if part.num_rows)
            return
        names = list(self.listing)
        for start in range(0, len(names), size):
            part = names[start : start + size]
            yield CropBatch(part, states={name: self.listing[name] for name in part})

    def row_groups(self) -> list[tuple[str, int, int]]:
        """File, number and rows of every row group of the tables. Reads their footers."""
        groups = (
            (fragment.path, group.id, group.num_rows)
            for whole in self._dataset().get_fragments()
            for fragment in whole.split_by_row_group()
            for group in fragment.row_groups
        )
        return [found for found in groups if found[2]]

    def row_group(self, table: str, number: int, size: int = CROPS_PER_BATCH) -> Iterator[CropBatch]:
        """The crops of a row group, ``size`` at a time."""
        from rrid_edge.gallery.bulk.tables import crops_of

        with self.filesystem.open_input_file(table) as file:
            parts = _arrow("parquet").ParquetFile(file).iter_batches(size, [number], list(self.columns))
            yield from (crops_of(part, self.root) for part in parts)

    def _dataset(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        dataset = _arrow("dataset")
        return dataset.dataset(list(self.tables), filesystem=self.filesystem, format="parquet")


@step("listing the input")
def open_input(text: str, root: str | None = None) -> CropInput:
    """Open an input of crops.

    Args:
        text: a folder, a file of Parquet, a folder of such files, or an address that pyarrow reads, such as
            ``s3://BUCKET/FOLDER``.
        root: folder or address of the files that a table's column ``path`` names; None means the table's folder.

    Raises:
        UsageError: nothing usable is there, or the table has wrong columns.
        FolderUnavailableError: the store or the folder cannot be read.
        MissingDependencyError: pyarrow is not installed.
    """
    if "://" in text:
        return _remote(text, root)
    path = Path(text)
    if path.is_dir():
        return _folder(path, root)
    if not path.is_file():
        raise UsageError(f"{printable(text)}: no such file or folder; {_EXPECTED}", parameter="input")
    if path.suffix.lower() != _TABLE:
        raise UsageError(f"{printable(text)}: no table of Parquet; {_EXPECTED}", parameter="input")
    return _tables(path, [str(path)], path.parent, root)


def _folder(folder: Path, root: str | None) -> CropInput:
    scan = scan_images(folder)
    tables = sorted(str(path) for path in folder.rglob(f"*{_TABLE}")) if scan.endings.get(_TABLE) else []
    _refuse_both(str(folder), len(scan.entries), len(tables))
    if tables:
        return _tables(folder, tables, folder, root)
    _refuse_root(root)
    listing, skipped = {}, [(str(path), reason) for path, reason in scan.skipped]
    for name, entry in scan.entries.items():
        try:
            listing[name] = file_state(entry.stat())
        except OSError as error:
            skipped.append((name, f"cannot be examined ({error.strerror})"))
    skipped += [(str(path), "a link that leads out of the folder") for path in scan.outside]
    return CropInput(
        str(folder),
        LocalFiles(folder.resolve()),
        None,
        folder,
        listing=listing,
        left_out=tuple(skipped),
        endings=scan.endings,
    )


def _tables(given: Path, tables: Sequence[str], folder: Path, root: str | None) -> CropInput:
    """Tables on a disk."""
    filesystem = _arrow("fs").LocalFileSystem()
    files = LocalFiles(folder.resolve()) if root is None else _root(root)
    source = f"{socket.gethostname()}:{printable(given.resolve())}"
    return _described(CropInput(str(given), files, source, tables=tuple(tables), filesystem=filesystem))


def _remote(text: str, root: str | None) -> CropInput:
    filesystem, base = _filesystem(text)
    fs = _arrow("fs")
    shown = _without_options(text)
    try:
        info = filesystem.get_file_info(base)
        if info.type == fs.FileType.File:
            found = [info]
        else:
            found = filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=False))
    except OSError as error:
        raise _unavailable(shown, error) from error
    files = [one for one in found if one.type == fs.FileType.File]
    tables = sorted(one.path for one in files if one.path.lower().endswith(_TABLE))
    images = sorted((one.path, one) for one in files if is_image_name(one.path))
    _refuse_both(shown, len(images), len(tables))
    if tables:
        folder = posixpath.dirname(base) if info.type == fs.FileType.File else base
        read = RemoteFiles(filesystem, folder) if root is None else _root(root)
        return _described(CropInput(shown, read, shown, tables=tuple(tables), filesystem=filesystem))
    _refuse_root(root)
    start = len(base.rstrip("/")) + 1
    listing = {path[start:]: (one.size, one.mtime_ns or 0) for path, one in images if len(path) > start}
    return CropInput(shown, RemoteFiles(filesystem, base), shown, filesystem=filesystem, listing=listing)


def _described(found: CropInput) -> CropInput:
    """Tables with the columns that are read.

    Raises:
        UsageError: a file is no table of Parquet, or its columns do not fit.
    """
    from rrid_edge.gallery.bulk.tables import read_columns

    try:
        schema = found._dataset().schema
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{printable(found.text)}: no readable table of Parquet ({_reason(error)})", parameter="input"
        ) from error
    return replace(found, columns=tuple(read_columns(schema, printable(found.text))))


def _root(root: str) -> CropFiles:
    """The files that a table's paths name."""
    if "://" in root:
        return RemoteFiles(*_filesystem(root))
    if not Path(root).is_dir():
        raise UsageError(
            f"{printable(root)}: no such folder; expected the folder of the table's files", parameter="root"
        )
    return LocalFiles(Path(root).resolve())


def _filesystem(text: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        UsageError: pyarrow cannot read the address, or it holds a password.
        FolderUnavailableError: the store does not answer.
    """
    fs = _arrow("fs")
    if "@" in urlsplit(text).netloc:
        raise UsageError(
            f"{_without_options(text)}: the address holds credentials; expected none: set them in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3)",
            parameter="input",
        )
    try:
        filesystem, base = fs.FileSystem.from_uri(text)
    except OSError as error:  # the region of a bucket is asked for over the network
        raise _unavailable(_without_options(text), error) from error
    except (ValueError, NotImplementedError) as error:
        raise UsageError(
            f"{_without_options(text)}: no usable address ({_reason(error)}); {_EXPECTED}", parameter="input"
        ) from error
    return filesystem, base


def _without_options(text: str) -> str:
    """An address without credentials and options."""
    parts = urlsplit(text)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/"))


def _unavailable(shown: str, error: OSError) -> FolderUnavailableError:
    return FolderUnavailableError(
        f"{shown}: cannot be listed ({_reason(error)}); check the address, the credentials and the network",
        parameter="input",
    )


def _reason(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def _refuse_both(where: str, images: int, tables: int) -> None:
    if images and tables:
        raise UsageError(
            f"{printable(where)}: {images} images and {tables} tables of Parquet; expected one kind: name the table, "
            "or a folder of crops alone",
            parameter="input",
        )
    if not images and not tables:
        raise UsageError(
            f"{printable(where)}: {why_no_images(where)}; expected crops ({FORMATS}) or tables", parameter="input"
        )


def _refuse_root(root: str | None) -> None:
    if root is not None:
        raise UsageError("a folder of crops has no other folder of files; leave it out", parameter="root")


def _arrow(module: str) -> ModuleType:
    """A module of pyarrow.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "pyarrow", "parquet", "reading tables and object stores") from error
