"""The page that asks for a token. It works without a script, and shows nothing that a token protects."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import Final

from starlette.responses import Response
from starlette.types import Scope

from rrid_edge.serve.addresses import API
from rrid_edge.serve.gate.scopes import route_path
from rrid_edge.serve.gate.tokens import CHALLENGE

_STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.5 system-ui, sans-serif;
  background: #f4f5f7; color: #1b1f24; }
main { width: min(22rem, calc(100vw - 2rem)); box-sizing: border-box; padding: 1.5rem; border-radius: .75rem;
  background: #fff; border: 1px solid #d5d9de; }
h1 { font-size: 1.25rem; margin: 0 0 1rem; }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; min-height: 2.75rem; border-radius: .5rem; }
input { padding: 0 .75rem; border: 1px solid #6b7480; background: transparent; color: inherit; }
button { margin-top: 1rem; border: 0; background: #1756a9; color: #fff; font-weight: 600; cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 3px solid #4d90e8; outline-offset: 2px; }
p { margin: 0 0 1rem; }
.wrong { color: #a4161a; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  body { background: #14171b; color: #e6e9ed; }
  main { background: #1d2126; border-color: #39414a; }
  input { border-color: #8a939e; }
  .wrong { color: #ff9a9a; }
}
"""
# A browser does not send what follows "#" in an address. There the page keeps what it shows.
_SCRIPT: Final = """
const next = document.querySelector("[name=next]");
next.form.addEventListener("submit", () => {
  if (!next.value.includes("#")) next.value += location.hash;
});
"""
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · rrid-edge</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>rrid-edge</h1>
{wrong}<form method="post" action="{action}">
<input type="text" name="username" value="rrid-edge" autocomplete="username" readonly hidden>
<label for="token">Token</label>
<input id="token" name="token" type="password" required autofocus autocomplete="current-password"{described}>
<input type="hidden" name="next" value="{after}">
<button>Log in</button>
</form>
</main>
<script>{script}</script>
</body>
</html>
"""


def _source_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; style-src {_source_of(_STYLE)}; script-src {_source_of(_SCRIPT)}; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_LONGEST_NEXT: Final = 2000


def login_page(scope: Scope, wrong: str = "", *, after: str | None = None, status: int = 401) -> Response:
    """The page as an answer.

    Args:
        scope: the request.
        wrong: what was wrong with the token that came; empty at the first time.
        after: where to go after the login; None: to the page that was asked for.
        status: of the answer.
    """
    root = str(scope.get("root_path", "")).rstrip("/")
    if after is None:
        query = scope["query_string"].decode("latin-1")
        after = route_path(scope) + (f"?{query}" if query else "")
    text = _PAGE.format(
        style=_STYLE,
        script=_SCRIPT,
        action=html.escape(f"{root}{API}/login"),
        after=html.escape(local_path(after)),
        wrong=f'<p class="wrong" id="wrong" role="alert">{html.escape(wrong)}</p>\n' if wrong else "",
        described=' aria-invalid="true" aria-describedby="wrong"' if wrong else "",
    )
    headers = {
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "no-store",
        # With no-referrer, a browser would send the form with Origin: null.
        "Referrer-Policy": "same-origin",
        **(CHALLENGE if status == 401 else {}),
    }
    return Response(text, status, headers, media_type="text/html")


def local_path(path: str) -> str:
    """``path`` if it leads to this service, below its root path; ``/`` otherwise."""
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and len(path) <= _LONGEST_NEXT
    return path if good and path.isascii() and path.isprintable() and "\\" not in path else "/"
