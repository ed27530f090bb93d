"""HTML reports: the answers to queries as one self-contained file, with thumbnails inside and tables that sort.

The file asks nothing of the network: pictures are data URIs, style and script are inline, and a content security policy
forbids everything else. All text of the user's, file names above all, is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from rrid_edge.errors import UsageError, printable
from rrid_edge.files import write_text
from rrid_edge.matching import Match, MatchResult
from rrid_edge.pictures.parts import (
    DIFFERENT,
    SAME,
    UNKNOWN,
    check_block_scores,
    largest_share,
    read_thumbnail,
    stripe_shares,
    verdict,
)

_THUMBNAIL_PX: Final = (64, 128)
_JPEG_QUALITY: Final = 85
_COLUMNS: Final = ("rank", "crop", "score", "distance", "parts", "camera", "person", "verdict", "path")
_UNSORTABLE: Final = frozenset({"crop", "parts"})
_WORDS: Final = {SAME: "same person", DIFFERENT: "another person", UNKNOWN: "not known"}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e22; --faint: #686c74; --paper: #fff; --line: #d8dbe0; --blank: #e6e8ec;
  --same: #16964a; --different: #ce2c2c; --unknown: #969aa0; --for: #2c70be; --against: #e88a1e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --faint: #9aa0aa; --paper: #16181c; --line: #363a42;
  --blank: #2a2d34; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); padding: 1.2rem 0; }
.query { display: flex; flex-wrap: wrap; gap: .8rem; align-items: end; margin-bottom: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; } td.path { overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--for); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
img, .missing { display: block; max-width: 64px; border: 3px solid var(--unknown); border-radius: 3px;
  box-sizing: content-box; }
.missing { width: 64px; min-height: 128px; padding: 4px; background: var(--blank); color: var(--faint);
  font-size: 10px; overflow-wrap: anywhere; }
.same img, .same .missing { border-color: var(--same); }
.different img, .different .missing { border-color: var(--different); }
.query img { border-color: var(--ink); }
.parts { display: grid; gap: 3px; width: 72px; height: 128px; }
.parts span { background: var(--blank); } .parts i { display: block; height: 100%; background: var(--for); }
.parts i.against { background: var(--against); }
.empty, .hint, footer { color: var(--faint); } footer { border-top: 1px solid var(--line); padding-top: 1rem; }
"""

_SCRIPT: Final = """
function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const falling = header.getAttribute("aria-sort") === "ascending";
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
    const order = header.dataset.kind === "number" ? Number(key(a)) - Number(key(b))
      : (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
    return falling ? -order : order;
  };
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  body.append(...Array.from(body.rows).sort(compare));
}
document.addEventListener("click", event => {
  const button = event.target.closest("th button");
  if (button) sortBy(button.closest("th"));
});
"""

_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def html_report(
    results: Sequence[MatchResult], gallery_root: Path, *, block_names: tuple[str, ...], footer: str = ""
) -> str:
    """The answers to one or several queries as an HTML document.

    Args:
        results: one section each.
        gallery_root: folder that the paths of the matches are relative to.
        block_names: the model's descriptor blocks, in order.
        footer: last line, for model and engine.

    Returns:
        The document. A crop that cannot be read is shown as a grey box with the reason.

    Raises:
        UsageError: no results, or block scores that are not this model's.
    """
    if not results:
        raise UsageError("there is no answer to report; give at least one query image")
    check_block_scores(results, block_names)
    sections = "\n".join(_section(result, gallery_root, block_names) for result in results)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>rrid-edge: matches</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Matches</h1>
<p class="hint">Click a heading to sort. Parts, from head to feet: what each stripe of the body adds to the score (blue)
or takes from it (orange).</p>
{sections}
<footer>{_text(footer)}</footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def write_report(path: Path, document: str) -> None:
    """Write an HTML report.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, document)


def _section(result: MatchResult, root: Path, block_names: tuple[str, ...]) -> str:
    pictures = "".join(_picture(path, printable(path)) for path in result.query)
    title = ", ".join(printable(Path(path).name) for path in result.query)
    known = [f"person {result.person}" if result.person is not None else ""]
    known.append(f"camera {result.camera}" if result.camera is not None else "")
    origin = " · ".join(part for part in known if part)
    head = (
        f'<div class="query">{pictures}<div><h2>{_text(title)}</h2><div class="hint">{_text(origin)}</div></div></div>'
    )
    return f"<section>{head}{_table(result, root, block_names)}</section>"


def _table(result: MatchResult, root: Path, block_names: tuple[str, ...]) -> str:
    if not result.matches:
        limit = "" if result.threshold is None else f" at a score of {result.threshold:.3f} or more"
        return f'<p class="empty">no match in the gallery{limit}</p>'
    full = largest_share(result, block_names)
    rows = "\n".join(_row(result, match, root, block_names, full) for match in result.matches)
    headings = "".join(_heading(name) for name in _COLUMNS if name != "distance" or result.reranked)
    return f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>\n{rows}\n</tbody></table></div>'


def _heading(name: str) -> str:
    if name in _UNSORTABLE:
        return f"<th>{name}</th>"
    kind = "number" if name in ("rank", "score", "distance", "camera") else "text"
    order = ' aria-sort="ascending"' if name == "rank" else ""
    return f'<th data-kind="{kind}"{order}><button type="button">{name}</button></th>'


def _row(result: MatchResult, match: Match, root: Path, block_names: tuple[str, ...], full: float) -> str:
    judged = verdict(result, match)
    cells = (
        _cell(str(match.rank), str(match.rank), "number"),
        f"<td>{_picture(root / match.path, match.path)}</td>",
        _cell(repr(float(match.score)), f"{match.score:.3f}", "number"),
        _distance(match) if result.reranked else "",
        f"<td>{_part_bar(match, block_names, full)}</td>",
        _cell("" if match.camera is None else str(match.camera), "" if match.camera is None else str(match.camera)),
        _cell(match.person or "", match.person or ""),
        _cell(_WORDS[judged], _WORDS[judged]),
        _cell(match.path, match.path, "path"),
    )
    return f'<tr class="{judged}">{"".join(cells)}</tr>'


def _distance(match: Match) -> str:
    """What the ranks follow after re-ranking."""
    if match.distance is None:
        return _cell("", "", "number")
    return _cell(repr(float(match.distance)), f"{match.distance:.3f}", "number")


def _cell(value: str, shown: str, kind: str = "text") -> str:
    return f'<td class="{kind}" data-value="{_text(value)}">{_text(shown)}</td>'


def _part_bar(match: Match, block_names: tuple[str, ...], full: float) -> str:
    bars = []
    for share in stripe_shares(match, block_names):
        direction = "for" if share > 0 else "against"
        bars.append(f'<span><i class="{direction}" style="width:{100 * abs(share) / full:.0f}%"></i></span>')
    if not bars:
        return ""
    every = "\n".join(f"{name}: {share:+.4f}" for name, share in zip(block_names, match.block_scores, strict=True))
    return f'<div class="parts" title="{escape(every)}">{"".join(bars)}</div>'


def _picture(path: str | Path, name: str) -> str:
    thumbnail = read_thumbnail(path, *_THUMBNAIL_PX)
    if thumbnail.image is None:
        return f'<div class="missing">{_text(thumbnail.problem)}</div>'
    stream = io.BytesIO()
    thumbnail.image.save(stream, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    size = f'width="{thumbnail.image.width}" height="{thumbnail.image.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" alt="{_text(name)}" {size}>'


def _text(text: str) -> str:
    """Text of the user's, made safe for element content and quoted attributes; control characters are shown."""
    return escape(printable(text))
