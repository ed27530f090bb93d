"""Fetch a network from the Hugging Face hub, at a commit that is recorded.

``huggingface_hub`` does the work: it obeys ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the user's cache. Only
weights and graphs are fetched, never a file that could be run.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rrid_edge import __version__
from rrid_edge.errors import (
    MissingDependencyError,
    ModelFileError,
    OutputError,
    RridEdgeError,
    UsageError,
    printable,
    unforeseen,
)
from rrid_edge.files import scratch_folder
from rrid_edge.model.external import leads_out
from rrid_edge.model.names import Kind, ir_weights_path, kind_of
from rrid_edge.model.onnx_header import read_model_header
from rrid_edge.model.protobuf import MOST_BYTES
from rrid_export.adopt.boxmot import SIDECAR_ENDING
from rrid_export.hub_address import FORM, HubAddress

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_DATA: Final = re.compile(r"(?:(?:onnx_)?data|bin|weights?|bias)(?:_?\d+)?|\d+", re.IGNORECASE)
"""Endings of files of weights that an ONNX file may name."""
_MOST_FILES: Final = 1000
_NETWORK_ERRORS: Final = (OSError, *HfHubHTTPError.__bases__)
"""Errors of the HTTP library, which differs between the versions of ``huggingface_hub``."""
_DISK_ERRORS: Final = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR)


@dataclass(frozen=True)
class HubFile:
    """A file of the hub on this machine.

    Attributes:
        path: the file, with the files that belong to it beside it.
        origin: its address with the commit: ``hf://owner/name@commit/file``.
    """

    path: Path
    origin: str


@contextmanager
def fetched(address: HubAddress, *, sidecar: bool = False) -> Iterator[HubFile]:
    """Fetch a file of the hub, and the files that it needs: the weights that an ONNX file names, the ``.bin`` of an IR.

    Args:
        address: the file.
        sidecar: also fetch ``<file>.metadata.json``, if the repository has it.

    Yields:
        The file. It may lie in a temporary folder, which is removed afterwards.

    Raises:
        UsageError: the hub has no such file, or not for this user.
        MissingDependencyError: the hub cannot be reached, and the file is not in the cache.
        ModelFileError: the file is too large, or names weights that are not fetched.
        OutputError: the cache cannot be written.
    """
    path = _download(address)
    commit = path.parts[-1 - len(Path(address.file).parts)]
    if not _COMMIT.fullmatch(commit):
        raise ModelFileError(f"{address}: the hub names no commit ({commit[:40]!r}): check HF_ENDPOINT")
    address = replace(address, revision=commit)
    files = {path.name: path}
    for name in _companions(path):
        files[name] = _download(_beside(address, name))
    if sidecar:
        files |= _sidecar(address)
    if len(files) == 1:
        yield HubFile(path, str(address))
        return
    # The cache has links to files elsewhere. What a model names must lie beside it, so links are not followed there.
    with scratch_folder() as folder:
        _copy(files, folder)
        yield HubFile(folder / path.name, str(address))


def _copy(files: Mapping[str, Path], folder: Path) -> None:
    try:
        for name, source in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    except OSError as error:
        raise OutputError(
            f"{printable(folder)}: the files of the hub cannot be copied there ({error.strerror}); set TMPDIR to a "
            "folder on a writable file system with free space"
        ) from error


def _beside(address: HubAddress, name: str) -> HubAddress:
    return replace(address, file=(Path(address.file).parent / name).as_posix())


def _companions(path: Path) -> tuple[str, ...]:
    """Names of the files that a file needs, relative to its folder."""
    if kind_of(path) is Kind.IR:
        return (ir_weights_path(path).name,)
    if kind_of(path) is not Kind.ONNX:
        return ()
    remedy = "download its folder yourself and give the file in it"
    names = read_model_header(path, remedy=remedy, check_weights=False).external_files
    if len(names) > _MOST_FILES:
        raise ModelFileError(f"{printable(path)}: it names {len(names):,} files of weights, expected few; {remedy}")
    for name in names:
        _, dot, ending = Path(name).name.rpartition(".")
        if leads_out(name) or (dot and not _DATA.fullmatch(ending)):
            raise ModelFileError(
                f"{printable(path)}: it names {printable(name)[:100]!r} for its weights, which is not fetched; "
                f"expected data beside it, such as {path.name}.data; {remedy}"
            )
    return names


def _sidecar(address: HubAddress) -> dict[str, Path]:
    """The facts beside a file, if the repository has them."""
    name = Path(address.file).name + SIDECAR_ENDING
    beside = _beside(address, name)
    known = try_to_load_from_cache(beside.repository, beside.file, revision=beside.revision)
    if known is not None and not isinstance(known, str):  # the cache remembers that the commit has none
        return {}
    try:
        return {name: _download(beside)}
    except UsageError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
    with suppress(EntryNotFoundError):  # it is there that the library lets the cache remember it
        hf_hub_download(beside.repository, beside.file, revision=beside.revision)
    return {}


def _download(address: HubAddress) -> Path:
    """The path of a file in the user's cache."""
    repository, file, revision = address.repository, address.file, address.revision
    if _COMMIT.fullmatch(revision):  # it does not change, so nobody is asked
        known = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(known, str):
            return Path(known)
    silence = _ask(address)
    try:
        return Path(
            hf_hub_download(
                repository,
                file,
                revision=revision,
                library_name="rrid-edge",
                library_version=__version__,
                local_files_only=silence is not None,
            )
        )
    except LocalEntryNotFoundError as error:
        raise _unavailable(address, silence or error.__cause__ or error) from error
    except _NETWORK_ERRORS as error:
        raise _refusal(address, error) or _disk_error(error) or _unavailable(address, error) from error


def _ask(address: HubAddress) -> Exception | None:
    """Ask the hub for a file once. ``hf_hub_download`` would try for half a minute where there is no network.

    Returns:
        What keeps the hub from answering; None if it has the file.

    Raises:
        UsageError: the hub has no such file, or not for this user.
        ModelFileError: the file is too large.
    """
    try:
        url = hf_hub_url(address.repository, address.file, revision=address.revision)
        facts = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HFValidationError, *_NETWORK_ERRORS) as error:
        if refusal := _refusal(address, error):
            raise refusal from error
        silence: Exception = error
        return silence
    except ValueError as error:  # of the HTTP library
        raise _no(
            address, f"HF_ENDPOINT or HF_TOKEN cannot be used ({unforeseen(error)}): correct or unset it"
        ) from error
    if facts.size is not None and facts.size > MOST_BYTES:
        raise ModelFileError(f"{address}: {facts.size:,} bytes, expected {MOST_BYTES:,} at most; name another file")
    return None


def _refusal(address: HubAddress, error: Exception) -> RridEdgeError | None:
    """What a refusal of the hub means; None if it is out of order."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    access = "ask for access on its page, and log in with HF_TOKEN or: hf auth login"
    if isinstance(error, GatedRepoError):
        return _no(address, f"the repository {address.repository} is gated: {access}")
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return _no(
            address, f"the hub has no repository {address.repository}, or it is private: check the name, or {access}"
        )
    if isinstance(error, RevisionNotFoundError):
        return _no(address, f"the repository has no revision {address.revision}: name a branch, a tag or a commit")
    if isinstance(error, EntryNotFoundError):
        return _no(address, f"the repository has no file {printable(address.file)}: look at its list of files")
    if isinstance(error, HFValidationError):
        return _no(address, f"no name of a repository; expected {FORM}")
    if status == 404:
        return _no(address, "the hub has no such repository, revision or file: check the address")
    if status == 403:
        return _no(address, f"the hub denies access: {access}")
    return None


def _no(address: HubAddress, reason: str) -> UsageError:
    return UsageError(f"{printable(str(address))}: {reason}")


def _unavailable(address: HubAddress, error: BaseException) -> MissingDependencyError:
    if isinstance(error, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set, and the file is not in the cache: fetch it once online"
    else:
        reason = f"the hub does not answer ({unforeseen(error)}), and the file is not in the cache: try again later"
    return MissingDependencyError(f"{printable(str(address))}: {reason}")


def _disk_error(error: BaseException) -> OutputError | None:
    number = getattr(error, "errno", None)
    if number not in _DISK_ERRORS:
        return None
    reason = getattr(error, "strerror", None) or "no access"
    return OutputError(
        f"{printable(constants.HF_HUB_CACHE)}: the hub's cache cannot be written ({reason}); set HF_HOME to a folder "
        "on a writable file system with free space"
    )
