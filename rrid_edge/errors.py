"""The error tree of rrid-edge: every error a user can cause or meet, with its exit code.

An error's message is one line that says what is wrong, what was expected and what to do. The command line prints that
line on stderr and exits with the class's ``exit_code``; nothing else in the package calls ``sys.exit``.

==== ==========================================================
code meaning
==== ==========================================================
0    done
1    a check failed (parity, threshold, verification)
2    wrong use or bad input
3    a missing extra, package or runtime
4    an artefact (model, checkpoint, gallery) is damaged or does not fit
==== ==========================================================
"""

from __future__ import annotations

from pathlib import Path


class RridEdgeError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        exit_code: the process exit status that the command line gives for it.
    """

    exit_code: int = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))

    @property
    def message(self) -> str:
        """The one line for the user."""
        return str(self.args[0])


class CheckFailedError(RridEdgeError):
    """A check that the user asked for was carried out and did not pass."""

    exit_code = 1


class UsageError(RridEdgeError):
    """Wrong use: an option, path or setting that cannot be acted upon."""


class ImageError(UsageError):
    """An image file that cannot be turned into pixels; names the file.

    Attributes:
        path: the file, as it was given.
        reason: why, without the file's name.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{printable(path)}: {self.reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class DatasetError(UsageError):
    """A dataset whose layout, lists or images contradict its form; names the first offending entry and the count."""


class FolderGoneError(UsageError):
    """A gallery's folder is missing, or empty while its index is not, as when a disk is not mounted."""


class OutputError(UsageError):
    """A result could not be written where the user wanted it."""


class MissingExtraError(RridEdgeError):
    """A command needs packages that an extra installs, or a runtime that this machine does not have."""

    exit_code = 3

    @classmethod
    def for_package(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """The line for a missing ``package`` that ``pip install 'rrid-edge[extra]'`` brings."""
        return cls(f"{purpose} needs the package {package!r}, which is not installed: pip install 'rrid-edge[{extra}]'")


class ArtefactError(RridEdgeError):
    """A file made by this package, or meant for it, is damaged or does not fit."""

    exit_code = 4


class ModelFileError(ArtefactError):
    """A model file that is no ONNX, another network's ONNX, an engine of another machine, or damaged."""


class CheckpointError(ArtefactError):
    """A checkpoint whose tensors or configuration are missing, extra, of other sizes, or unsafe to read."""


class GalleryError(ArtefactError):
    """A gallery index that is damaged, of a newer format, or busy."""


class BusyGalleryError(GalleryError):
    """A gallery that another process is writing."""


class ForeignGalleryError(GalleryError):
    """A gallery that was indexed with another model than the one that asks."""


def printable(path: str | Path) -> str:
    r"""A path as one line of text: control characters and undecodable bytes are shown as escapes.

    Example: a newline in a name is shown as ``\n``.
    """
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
