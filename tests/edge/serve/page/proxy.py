"""A tiny reverse proxy: it serves one path of its own from another server, and streams."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding"}


class _Handler(BaseHTTPRequestHandler):
    root = ""
    behind = ""
    refused: list[str]

    def _forward(self) -> None:
        if not self.path.startswith(f"{self.root}/"):
            self.refused.append(self.path)
            self.send_error(404)
            return
        connection = http.client.HTTPConnection(self.behind, timeout=60)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection.request(self.command, self.path, body or None, dict(self.headers))
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while chunk := answer.read1(65536):
                self.wfile.write(chunk)
                self.wfile.flush()

    do_GET = do_POST = do_PATCH = do_DELETE = _forward  # noqa: N815 - names that the base class looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@contextlib.contextmanager
def proxied(address: str, root: str) -> Iterator[tuple[str, list[str]]]:
    """Serve ``address`` below the path ``root``.

    Args:
        address: of the server behind, such as ``http://127.0.0.1:40001/reid``.
        root: such as ``/reid``.

    Yields:
        The address of the proxy, with the path; and a list that gets every path outside ``root`` that was asked for.
    """
    refused: list[str] = []
    handler = type("Handler", (_Handler,), {"root": root, "behind": urlsplit(address).netloc, "refused": refused})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{root}", refused
        finally:
            server.shutdown()
            thread.join()
