"""Every error that a user can cause or meet, with its exit code.

::

    RridEdgeError                          2
    ├── CheckFailedError                   1  parity, a threshold or another check failed
    ├── UsageError                         2  a parameter, path or setting that cannot be used
    │   ├── ImageError                     2  an image file that cannot be decoded
    │   ├── DatasetError                   2  a dataset that contradicts its layout
    │   ├── FolderUnavailableError         2  a folder of crops that is missing, or empty because a disk is not mounted
    │   ├── ClosedError                    2  an engine or gallery used after it was closed
    │   └── OutputError                    2  a result that cannot be written
    ├── MissingDependencyError             3  a missing package, runtime, driver, GPU or network
    ├── GpuFaultError                      3  the GPU or its driver failed at work
    ├── ArtefactError                      4  a file that is damaged or does not fit
    │   ├── ModelFileError                 4  an ONNX file or engine
    │   ├── CheckpointError                4  a checkpoint
    │   ├── FingerprintMismatchError       4  descriptors of another network
    │   └── GalleryError                   4  a gallery
    │       ├── GalleryBusyError           4  another process is writing it
    │       ├── GalleryChangedError        4  it changed while it was read
    │       ├── GalleryMissingError        4  there is none at this location
    │       └── GalleryUnavailableError    4  its server is down or slow
    └── UnexpectedError                    5  an error of the package that nobody foresaw

Exit code 0 means success. A message is one line without control characters: what is wrong, what was expected, what to
do. The command line prints it on stderr, with the options that set its ``parameters``, and exits with the class's
``exit_code``. Nothing else in the package calls ``sys.exit``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class RridEdgeError(Exception):
    """Base of every error that this package raises on purpose. It is not raised itself.

    The message names a parameter as Python callers know it. The command line adds the option of that name by itself.
    Errors cross processes: pickling keeps the class, the message and all attributes.

    Attributes:
        exit_code: exit status of the command line after this error.
        parameters: names of the parameters whose values are wrong, or could be changed; empty where there are none.
    """

    exit_code: int = 2

    def __init__(self, message: str, *, parameter: str | tuple[str, ...] = ()) -> None:
        super().__init__(printable(" ".join(message.split())))
        self.parameters = (parameter,) if isinstance(parameter, str) else parameter

    @property
    def message(self) -> str:
        """The one line for the user."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Callable[..., RridEdgeError], tuple[object, ...]]:
        return _restored, (type(self), self.args, dict(self.__dict__))


def _restored(kind: type[RridEdgeError], args: tuple[object, ...], attributes: dict[str, object]) -> RridEdgeError:
    """An error as it was in another process. A subclass may take other arguments, so its ``__init__`` does not run."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class CheckFailedError(RridEdgeError):
    """A check ran and did not pass."""

    exit_code = 1


class UsageError(RridEdgeError):
    """Wrong use: a parameter, path or setting that cannot be used."""


class ImageError(UsageError):
    """An image file that cannot be decoded. The message names the file.

    Attributes:
        path: the file, as given.
        reason: what is wrong and what to do, without the file's name.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = printable(" ".join(reason.split()))
        super().__init__(f"{printable(path)}: {self.reason}")


class DatasetError(UsageError):
    """A dataset that contradicts its layout. The message names the first wrong entry and how many there are."""


class FolderUnavailableError(UsageError):
    """A folder of crops is missing, or it is empty and its index is not. Often a disk is not mounted."""


class ClosedError(UsageError):
    """An object was used after it was closed, perhaps by another thread. Open it again.

    Args:
        what: the object and where it lies, for example ``the gallery crops/``.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} was closed: expected an open one; open it again, and close it after its last use")


class OutputError(UsageError):
    """A result cannot be written to the path that the user gave."""


class MissingDependencyError(RridEdgeError):
    """This machine lacks what a command needs: a package, a runtime, a driver, a GPU or the network."""

    exit_code = 3


class GpuFaultError(RridEdgeError):
    """A CUDA call failed on a GPU that had answered before."""

    exit_code = 3


class ArtefactError(RridEdgeError):
    """A model, checkpoint or gallery is damaged or does not fit."""

    exit_code = 4


class ModelFileError(ArtefactError):
    """A model file that is damaged, is no ONNX file of this package, or is an engine of another machine."""


class CheckpointError(ArtefactError):
    """A checkpoint whose tensors or configuration are missing, surplus, of the wrong shape or unsafe to read."""


class FingerprintMismatchError(ArtefactError):
    """Descriptors of another network, which cannot be compared with the ones given."""


class GalleryError(ArtefactError):
    """A gallery that is damaged, of a newer format, or that returned only some of its rows."""


class GalleryBusyError(GalleryError):
    """Another process is writing this gallery."""


class GalleryChangedError(GalleryError):
    """A gallery changed while it was read, several times; try again."""


class GalleryMissingError(GalleryError):
    """There is no gallery at this location."""


class GalleryUnavailableError(GalleryError):
    """The gallery's server is down or slow. Rows that it accepted are kept."""


class UnexpectedError(RridEdgeError):
    """Something failed in a way that nobody foresaw. The message names the item at work and the file for a report."""

    exit_code = 5


_ITEM = "_rrid_edge_item"
LONGEST_REASON = 160
"""Characters of :func:`unforeseen` at most."""


@contextmanager
def item_at_work(item: str | Path) -> Iterator[None]:
    """Remember ``item`` (a file, a person) in an exception that leaves the block and that nobody foresaw.

    Of nested blocks the innermost wins. Errors of this package pass unchanged: they name the item by themselves.
    """
    try:
        yield
    except (RridEdgeError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # libraries in Rust raise some that are no Exception
        if item_of(error) is None:
            with suppress(AttributeError, TypeError):  # exceptions of extension modules may take no attributes
                setattr(error, _ITEM, printable(item))
        raise


def item_of(error: BaseException) -> str | None:
    """The item that :func:`item_at_work` remembered in ``error``, or in the exceptions that led to it."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        item = getattr(at, _ITEM, None)
        if isinstance(item, str):
            return item
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return None


def unforeseen(error: BaseException, *, known: str = "") -> str:
    """What went wrong, in one short line without control characters, for example ``RuntimeError: no such layer``.

    Args:
        error: the exception.
        known: text to leave out of it, such as the path of a file that the message names anyway.
    """
    try:
        text = str(error).replace(known, "...") if known else str(error)
        text = printable(" ".join(text.split()))
    except Exception:
        text = ""
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1]}…"


def printable(path: str | Path) -> str:
    r"""A path as one line of text, with control characters and undecodable bytes as escapes.

    Example: a newline in a name is shown as ``\n``.
    """
    if (text := str(path)).isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
