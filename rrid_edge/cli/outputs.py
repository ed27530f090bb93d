"""Where an answer may be written: paths that cannot be used are refused before the work is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrid_edge.errors import OutputError, printable
from rrid_edge.files import check_output


def refuse_outputs(sheet: Path | None, report: Path | None) -> None:
    """Refuse paths of a contact sheet or a report that promise another kind of file, or that cannot be written.

    Raises:
        OutputError: one does, or one cannot.
    """
    if sheet is not None:
        from rrid_edge.pictures.contact_sheet import check_sheet_name

        check_sheet_name(sheet)
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{printable(report)}: a report is a page of HTML; end its name in .html")
    for path in filter(None, (sheet, report)):
        check_output(path)


def refuse_among_pictures(sheet: Path | None, queries: Sequence[Sequence[Path]], folders: Sequence[Path]) -> None:
    """Refuse a contact sheet that would replace a query image, or be taken for a crop by the next command.

    Args:
        sheet: where it is to be written, or None.
        queries: image files of each query.
        folders: of queries and of the gallery's crops.

    Raises:
        OutputError: it would.
    """
    if sheet is None:
        return
    place = sheet.resolve()
    if any(file.resolve() == place for files in queries for file in files):
        raise OutputError(
            f"{printable(sheet)}: this is a query image, which the sheet would replace; give another path"
        )
    for folder in folders:
        inside = place.relative_to(folder.resolve()).parts if place.is_relative_to(folder.resolve()) else ()
        if inside and not any(part.startswith(".") for part in inside):
            raise OutputError(
                f"{printable(sheet)}: this lies in {printable(folder)}, whose pictures are read: the next command "
                "would take the sheet for one; give a path outside of it"
            )


def refuse_report(path: Path | None) -> None:
    """Refuse a parity report that is no JSON file by its name, such as a model, or that cannot be written.

    Raises:
        OutputError: it is, or it cannot.
    """
    if path is None:
        return
    if path.suffix.lower() != ".json":
        raise OutputError(f"{printable(path)}: a parity report is a JSON file; end its name in .json")
    check_output(path)
