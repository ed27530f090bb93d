"""The error tree: what its drawing says, exit codes, one-line messages."""

import pickle
import re
from pathlib import Path

from rrid_edge import errors


def drawn() -> list[tuple[int, str, int]]:
    """Depth, name and exit code of each class in the drawing of the module's docstring."""
    lines = re.findall(r"^ {4}([│├└─ ]*)(\w+Error) +(\d)", errors.__doc__ or "", re.MULTILINE)
    return [(len(branch) // 4, name, int(code)) for branch, name, code in lines]


def defined(kind: type[errors.RridEdgeError], depth: int = 0) -> list[tuple[int, str, int]]:
    return [(depth, kind.__name__, kind.exit_code)] + [
        entry
        for child in kind.__subclasses__()
        if child.__module__ == errors.__name__  # other packages and tests have classes of their own
        for entry in defined(child, depth + 1)
    ]


def test_the_drawn_tree_is_the_tree():
    assert drawn() == defined(errors.RridEdgeError)


def test_descriptors_of_another_network_are_no_damaged_gallery():
    # Callers that close a gallery after a GalleryError must not treat a wrong model as damage.
    assert not issubclass(errors.FingerprintMismatchError, errors.GalleryError)


def test_a_message_is_one_line_and_image_errors_survive_pickling():
    assert errors.UsageError("first\nsecond  third").message == "first second third"
    error = errors.ImageError("a\nb.jpg", "not\nan image")
    assert error.message == "a\\nb.jpg: not an image"
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.path, copy.reason, copy.message) == (Path("a\nb.jpg"), "not an image", error.message)


def test_messages_hold_no_control_characters():
    hostile = "\x1b[31m\x9b\u202e\udc80 caf\u00e9"
    shown = "\\x1b[31m\\x9b\\u202e\\udc80 caf\u00e9"
    assert errors.GalleryError(hostile).message == shown
    error = errors.ImageError("a.jpg", hostile)
    assert (error.reason, str(error)) == (shown, f"a.jpg: {shown}")
    assert errors.UsageError(error.message).message == error.message  # escapes are not escaped again
